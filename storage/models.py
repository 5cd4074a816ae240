"""What the workers publish of the networks they have loaded, so that the API needs no torch."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.postgresql import insert

from domain.prompts import ModelLimits
from storage.tables import models


@dataclass(frozen=True, slots=True)
class PublishedModel:
    name: str
    limits: ModelLimits
    tokenizer_json: str
    weights_sha256: str
    published_at: datetime | None = None  # told by the database


def publish_model(connection: Connection, model: PublishedModel) -> None:
    values = {
        "tokenizer_json": model.tokenizer_json,
        "text_tokens": model.limits.text_tokens,
        "queries": model.limits.queries,
        "image_size": model.limits.image_size,
        "weights_sha256": model.weights_sha256,
        "published_at": func.now(),
    }
    statement = insert(models).values(name=model.name, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))


def find_model(connection: Connection, name: str) -> PublishedModel | None:
    row = connection.execute(select(models).where(models.c.name == name)).one_or_none()
    if row is None:
        return None
    limits = ModelLimits(row.text_tokens, row.queries, row.image_size)
    return PublishedModel(
        row.name, limits, row.tokenizer_json, row.weights_sha256, row.published_at
    )
