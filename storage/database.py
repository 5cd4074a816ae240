"""Connections. `Database.begin` is the only place that commits."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import Connection, Engine, create_engine, func, select, text

POOL_SIZE = 16  # the API's threads wait for one of these rather than for the database

# A connection that died without a word is noticed within 20 s, well within a lease.
_DEAD_CONNECTIONS = {
    "connect_timeout": 10,
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,  # milliseconds
}


def database_time(connection: Connection) -> datetime:
    """When the transaction began. Clocks of workers differ; this one is everybody's."""
    return connection.execute(select(func.now())).scalar_one()


def see_one_moment(connection: Connection) -> None:
    """Have all further statements of the transaction, of which this must be the first, see the same
    rows, whatever is committed meanwhile."""
    connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))


class Database:
    """One pool of connections to PostgreSQL."""

    def __init__(self, url: str, *, pool_size: int = POOL_SIZE) -> None:
        self._engine: Engine = create_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            pool_pre_ping=True,
            connect_args={"options": "-c timezone=utc", **_DEAD_CONNECTIONS},
        )

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A transaction: committed at the end, rolled back on an exception."""
        with self._engine.begin() as connection:
            yield connection

    def dispose(self) -> None:
        self._engine.dispose()
