"""Webhook calls as JSON."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from api.documents import NextCursor


class DeliveryDocument(BaseModel):
    """`id` is the call's `webhook-id`."""

    id: str
    kind: str = Field(examples=["job.succeeded"])
    state: Literal["pending", "delivered", "given_up"]
    attempts: int
    last_status: int | None = Field(description="The receiver's answer to the last attempt")
    last_error: str | None = Field(
        description="Why there was none: `timeout`, `unavailable`, `refused`; or `sending`"
    )
    next_attempt_at: datetime | None
    delivered_at: datetime | None
    created_at: datetime


class DeliveryPage(BaseModel):
    data: list[DeliveryDocument]
    next_cursor: NextCursor


class WebhookSecret(BaseModel):
    secret: str = Field(description="Signs the webhooks of your key's jobs", examples=["whsec_..."])
