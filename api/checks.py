"""Is everything there that the service needs? Asked by /readyz and by `python -m api.doctor`."""

import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import redis
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import select

from migrations.__main__ import configuration
from storage.database import Database
from storage.object_store import ObjectStore, open_store
from storage.settings import Settings

_BROKER_SECONDS = 3.0
_LOW_DISK_BYTES = 2 * 2**30


@dataclass(frozen=True, slots=True)
class Check:
    """`mend` says what to do, and is empty when all is well."""

    check: str
    ok: bool
    detail: str
    mend: str = ""


def check_database(database: Database, settings: Settings) -> Iterator[Check]:
    """The database, and whether its tables are those of this version."""
    try:
        with database.begin() as connection:
            connection.execute(select(1))
            current = MigrationContext.configure(connection).get_current_heads()
    except Exception as error:
        mend = "start PostgreSQL, and look at MASKMILL_DATABASE_URL"
        yield Check("database", False, _first_line(error), mend)
        return
    yield Check("database", True, "PostgreSQL answers")
    url = settings.database_url.get_secret_value()
    expected = ScriptDirectory.from_config(configuration(url)).get_heads()
    found = ", ".join(current) or "none"
    if set(current) == set(expected):
        yield Check("migrations", True, found)
    else:
        detail = f"the database has {found}, this version needs {', '.join(expected)}"
        yield Check("migrations", False, detail, "run `python -m migrations upgrade`")


def check_broker(settings: Settings) -> Check:
    mend = "start Valkey or Redis, and look at MASKMILL_BROKER_URL"
    try:
        client = redis.Redis.from_url(
            settings.broker_url.get_secret_value(),
            socket_timeout=_BROKER_SECONDS,
            socket_connect_timeout=_BROKER_SECONDS,
        )
        with client:
            client.ping()
    except ValueError:  # it may repeat a part of the address, which holds the password
        return Check("broker", False, "MASKMILL_BROKER_URL cannot be parsed", mend)
    except (redis.RedisError, OSError) as error:
        return Check("broker", False, _first_line(error), mend)
    return Check("broker", True, "answers")


def check_store(open_: Callable[[], ObjectStore]) -> Check:
    """Writes, reads and deletes a small object."""
    key = f"health/{uuid.uuid4().hex}"
    try:
        store = open_()
        store.put(key, b"ok")
        store.get(key)
        store.delete([key])
    except Exception as error:
        mend = "look at MASKMILL_OBJECT_STORE, its credentials and rights, and free space"
        return Check("object store", False, _first_line(error), mend)
    return Check("object store", True, "writes, reads and deletes")


@dataclass(frozen=True, slots=True)
class Disk:
    folder: Path
    free_bytes: int


def store_disk(settings: Settings) -> Disk:
    """Where a folder store lies, else where uploads are held for a moment."""
    url = settings.object_store
    folder = Path(unquote(urlsplit(url).path)) if url.startswith("file://") else Path.cwd()
    while not folder.exists():
        folder = folder.parent
    return Disk(folder, shutil.disk_usage(folder).free)


def check_disk(settings: Settings) -> Check:
    disk = store_disk(settings)
    free = disk.free_bytes
    detail = f"{free / 2**30:.1f} GiB free at {disk.folder}"
    if free < _LOW_DISK_BYTES:
        return Check("disk", False, detail, "make room")
    return Check("disk", True, detail)


def all_checks(settings: Settings) -> Iterator[Check]:
    database = Database(settings.database_url.get_secret_value(), pool_size=1)
    try:
        yield from check_database(database, settings)
    finally:
        database.dispose()
    yield check_broker(settings)
    yield check_store(lambda: open_store(settings.object_store, settings=settings))
    yield check_disk(settings)


def _first_line(error: Exception) -> str:
    """Drivers add the statement and advice on further lines."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300]
