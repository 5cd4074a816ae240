"""Workers that live, as they say themselves every few seconds."""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import Connection, delete, func, text
from sqlalchemy.dialects.postgresql import insert

from storage.tables import workers

Role = Literal["bulk", "interactive", "planner"]

BEAT_SECONDS = 5.0
SILENT_SECONDS = 20.0  # who says nothing for so long is taken for dead
_FORGOTTEN_AFTER = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Memory:
    """Of a device: what the worker has of it, and all there is."""

    used_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Presence:
    """`name` is the worker's in its leases; it takes work of the models it `serves`, and has those
    `loaded`. Without a CUDA device, `memory` is the machine's."""

    name: str
    role: Role
    version: str
    serves: tuple[str, ...]
    loaded: tuple[str, ...]
    device: str | None  # of what is loaded
    memory: Memory


@dataclass(frozen=True, slots=True)
class Worker:
    """`is_busy`: it holds a shard, or makes a plan, an export or the like. Interactive workers hold
    nothing that the database knows of."""

    presence: Presence
    is_busy: bool
    started_at: datetime
    seen_at: datetime


def say_present(connection: Connection, presence: Presence) -> None:
    said = asdict(presence)
    memory = said.pop("memory")
    values = {**said, **{f"memory_{name}": value for name, value in memory.items()}}
    statement = insert(workers).values(**values)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["name"], set_={**values, "seen_at": func.now()}
        )
    )


def say_gone(connection: Connection, name: str) -> None:
    connection.execute(delete(workers).where(workers.c.name == name))


def forget_silent(connection: Connection) -> None:
    """Those that died long ago."""
    connection.execute(delete(workers).where(workers.c.seen_at < func.now() - _FORGOTTEN_AFTER))


def living_workers(connection: Connection) -> list[Worker]:
    """By role, the oldest first."""
    rows = connection.execute(LIVING)
    return [
        Worker(
            Presence(
                row.name,
                row.role,
                row.version,
                tuple(row.serves),
                tuple(row.loaded),
                row.device,
                Memory(row.memory_used_bytes, row.memory_total_bytes),
            ),
            row.is_busy,
            row.started_at,
            row.seen_at,
        )
        for row in rows
    ]


LIVING = text(f"""
    WITH holder AS (
        SELECT lease_owner AS name FROM shards
         WHERE status = 'running' AND lease_expires_at >= now()
        UNION
        SELECT lease_owner FROM jobs
         WHERE status IN ('queued', 'planning', 'running') AND lease_expires_at >= now()
        UNION
        SELECT lease_owner FROM exports
         WHERE status IN ('queued', 'running') AND lease_expires_at >= now()
    )
    SELECT workers.*, EXISTS (SELECT FROM holder WHERE holder.name = workers.name) AS is_busy
      FROM workers
     WHERE seen_at >= now() - make_interval(secs => {SILENT_SECONDS})
     ORDER BY role, started_at, name
""")  # noqa: S608  # nothing in it comes from outside
