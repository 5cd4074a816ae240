"""Connections. `Database.begin` is the only place that commits."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, create_engine

POOL_SIZE = 16  # the API's threads wait for one of these rather than for the database


class Database:
    """One pool of connections to PostgreSQL."""

    def __init__(self, url: str, *, pool_size: int = POOL_SIZE) -> None:
        self._engine: Engine = create_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            pool_pre_ping=True,
            connect_args={"connect_timeout": 10, "options": "-c timezone=utc"},
        )

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A transaction: committed at the end, rolled back on an exception."""
        with self._engine.begin() as connection:
            yield connection

    def dispose(self) -> None:
        self._engine.dispose()
