"""Sessions as JSON."""

from datetime import datetime

from pydantic import BaseModel, Field, SecretStr

from api.documents import RequestDocument


class SignIn(RequestDocument):
    api_key: SecretStr = Field(min_length=1, max_length=200)


class SessionDocument(BaseModel):
    key_name: str
    is_admin: bool
    csrf_token: str = Field(description="For the header `X-CSRF-Token`")
    expires_at: datetime
    version: str = Field(description="Of the service")
