"""API keys as JSON."""

from datetime import datetime

from pydantic import BaseModel, Field

from api.documents import NextCursor, RequestDocument


class KeyRequest(RequestDocument):
    name: str = Field(min_length=1, max_length=200, examples=["labelling team"])
    is_admin: bool = Field(False, description="May manage keys")


class KeyDocument(BaseModel):
    id: str
    name: str
    is_admin: bool
    created_at: datetime
    revoked_at: datetime | None


class NewKeyDocument(KeyDocument):
    secret: str = Field(description="Shown this once; only a hash of it is kept")


class KeyPage(BaseModel):
    data: list[KeyDocument]
    next_cursor: NextCursor
