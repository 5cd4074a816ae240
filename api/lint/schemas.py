"""What can be said about prompts, as JSON."""

from pydantic import BaseModel, Field

from api.documents import RequestDocument
from domain.documents import JobPromptDocument
from domain.findings import PromptFinding
from domain.prompts import MAX_JOB_PROMPTS


class LintRequest(RequestDocument):
    prompts: list[JobPromptDocument] = Field(min_length=1, max_length=MAX_JOB_PROMPTS)
    model: str | None = Field(None, max_length=1024, description="The service's first by default")


class LintReport(BaseModel):
    findings: list[PromptFinding] = Field(description="Warnings first")
    model: str
    reads_tokens: bool = Field(
        description="Whether a worker has said how the model reads texts; without, long texts and "
        "unknown words go unnoticed"
    )
