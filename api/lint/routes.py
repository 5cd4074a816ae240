"""/v1/lint"""

from fastapi import APIRouter

from api.auth import Caller, KeyFirst
from api.context import RequestContext
from api.jobs.service import allowed_model
from api.lint.schemas import LintReport, LintRequest
from api.problems import declared
from domain.prompt_lint import lint
from storage.models import find_model

router = APIRouter(prefix="/v1/lint", tags=["previews"], route_class=KeyFirst)


@router.post("", responses=declared(413))
def lint_prompts(request: LintRequest, context: RequestContext, _caller: Caller) -> LintReport:
    """What can be said about prompts without any image: negation, duplicates, words that the
    network does not know. A preview says the same, and what the prompts find."""
    name = allowed_model(context, request.model)
    with context.database.begin() as connection:
        model = find_model(connection, name)
    findings = lint(
        [prompt.to_prompt() for prompt in request.prompts],
        model.tokenizer_json if model else None,
        text_tokens=model.limits.text_tokens if model else None,
    )
    return LintReport(findings=findings, model=name, reads_tokens=model is not None)
