"""API keys, kept as SHA-256 only: they are 256 random bits, so no slow hash is needed."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select, update
from sqlalchemy.dialects.postgresql import insert

from domain.ids import new_id
from storage.tables import api_keys

_COLUMNS = (
    api_keys.c.id,
    api_keys.c.name,
    api_keys.c.is_admin,
    api_keys.c.created_at,
    api_keys.c.revoked_at,
)


@dataclass(frozen=True, slots=True)
class ApiKey:
    id: str
    name: str
    is_admin: bool
    created_at: datetime
    revoked_at: datetime | None


def new_secret() -> str:
    return f"mm_{secrets.token_urlsafe(32)}"


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def add_key(connection: Connection, name: str, *, secret: str, is_admin: bool) -> ApiKey:
    """Store a key; the same secret again returns the key that is there."""
    values = {
        "id": new_id("key"),
        "name": name,
        "secret_sha256": _digest(secret),
        "is_admin": is_admin,
    }
    statement = insert(api_keys).values(values)
    kept = statement.on_conflict_do_update(
        index_elements=["secret_sha256"], set_={"name": api_keys.c.name}
    )
    return ApiKey(*connection.execute(kept.returning(*_COLUMNS)).one())


def find_key(connection: Connection, secret: str) -> ApiKey | None:
    """The key that `secret` opens, unless it was revoked."""
    query = select(*_COLUMNS).where(
        api_keys.c.secret_sha256 == _digest(secret), api_keys.c.revoked_at.is_(None)
    )
    row = connection.execute(query).one_or_none()
    return ApiKey(*row) if row else None


def find_key_by_id(connection: Connection, key_id: str) -> ApiKey | None:
    """The key with this id, unless it was revoked."""
    query = select(*_COLUMNS).where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
    row = connection.execute(query).one_or_none()
    return ApiKey(*row) if row else None


def list_keys(connection: Connection, *, after: str, limit: int) -> list[ApiKey]:
    query = select(*_COLUMNS).where(api_keys.c.id > after).order_by(api_keys.c.id).limit(limit)
    return [ApiKey(*row) for row in connection.execute(query)]


def count_admins(connection: Connection) -> int:
    query = select(func.count()).where(api_keys.c.is_admin, api_keys.c.revoked_at.is_(None))
    return connection.execute(query).scalar_one()


def lock_admins(connection: Connection) -> list[str]:
    """Ids of the admin keys in force; none of them is revoked by others until the commit."""
    query = select(api_keys.c.id).where(api_keys.c.is_admin, api_keys.c.revoked_at.is_(None))
    return list(connection.execute(query.order_by(api_keys.c.id).with_for_update()).scalars())


def revoke_key(connection: Connection, key_id: str) -> ApiKey | None:
    """Refuse the key from now on; its jobs stay. None when there is no such key."""
    statement = (
        update(api_keys)
        .where(api_keys.c.id == key_id)
        .values(revoked_at=func.coalesce(api_keys.c.revoked_at, func.now()))
        .returning(*_COLUMNS)
    )
    row = connection.execute(statement).one_or_none()
    return ApiKey(*row) if row else None
