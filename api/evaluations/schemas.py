"""Evaluations as JSON."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from api.documents import NextCursor, RequestDocument
from api.exports.schemas import MadeDocument
from api.jobs.schemas import DatasetPath, S3Uri
from domain.evaluation.documents import EvaluationOptions, EvaluationReport


class DatasetTruth(RequestDocument):
    """A COCO file that was uploaded to a dataset."""

    type: Literal["dataset"]
    id: str = Field(max_length=64, examples=["ds_01k5a0c6w7fj4m2n9s8r3t1v5x"])
    path: DatasetPath = Field(examples=["truth.json"])


class ObjectTruth(RequestDocument):
    """A COCO file among what jobs may read."""

    type: Literal["object"]
    uri: S3Uri = Field(examples=["s3://bucket/instances_val.json"])


Truth = Annotated[DatasetTruth | ObjectTruth, Field(discriminator="type")]


class EvaluationRequest(EvaluationOptions, RequestDocument):
    """What to compare the result with: ground truth as COCO instances, taken to be all there is of
    its categories in its images."""

    truth: Truth
    partial: bool = Field(
        False, description="Take what is labelled so far of a job that still runs, or is on hold"
    )


class EvaluationDocument(MadeDocument):
    truth: Truth
    truth_sha256: str
    options: EvaluationOptions
    report: EvaluationReport | None = Field(description="Once it has succeeded; null in lists")


class EvaluationPage(BaseModel):
    data: list[EvaluationDocument] = Field(description="Newest first")
    next_cursor: NextCursor
