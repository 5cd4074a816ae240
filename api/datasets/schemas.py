"""Datasets as JSON."""

from datetime import datetime

from pydantic import BaseModel, Field

from api.documents import NextCursor, RequestDocument


class DatasetRequest(RequestDocument):
    name: str = Field(min_length=1, max_length=200, examples=["street, week 12"])


class DatasetDocument(BaseModel):
    id: str
    name: str
    linked: bool = Field(description="A folder of the operator's machine; takes no uploads")
    created_at: datetime


class DatasetPage(BaseModel):
    data: list[DatasetDocument]
    next_cursor: NextCursor


class UploadedFile(BaseModel):
    path: str
    bytes: int
