"""Real servers for tests: one PostgreSQL and one Valkey for each pytest process.

The servers forget on a crash (`durable=False`), which makes them quick; each test has a database
or an empty broker of its own.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from maskmill.embedded.ports import free_port
from maskmill.embedded.postgres import PostgresServer, reachable_binaries, server_owner
from maskmill.embedded.supervisor import Supervisor
from maskmill.embedded.valkey import ValkeyServer

REPOSITORY = Path(__file__).parent.parent
TEMPLATE = "migrated"


@pytest.fixture(scope="session")
def session_folder() -> Iterator[Path]:
    """Unlike pytest's own, PostgreSQL's user can enter it when tests run as root."""
    with tempfile.TemporaryDirectory(prefix="maskmill-test-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield folder


@pytest.fixture
def open_folder(session_folder: Path) -> Iterator[Path]:
    """An empty folder for one test, for data folders of embedded stacks and servers."""
    folder = session_folder / uuid.uuid4().hex[:8]
    folder.mkdir(mode=0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres_server(session_folder: Path) -> Iterator[PostgresServer]:
    owner = server_owner()
    server = PostgresServer(
        home=session_folder / "postgres",
        binaries=reachable_binaries(owner),
        owner=owner,
        password=uuid.uuid4().hex,
        port=free_port(),
        log=session_folder / "postgres.log",
        durable=False,
    )
    server.prepare()
    supervisor = Supervisor(print)
    process_id = supervisor.start(server.spec()).pid
    wait_until(lambda: server.is_ready(process_id), supervisor=supervisor)
    yield server
    supervisor.stop(["postgres"], seconds=10, hurry=threading.Event())


@pytest.fixture(scope="session")
def migrated_template(postgres_server: PostgresServer) -> str:
    """The name of a database in which every migration has run; nobody may connect to it."""
    execute(postgres_server, f"CREATE DATABASE {TEMPLATE}")
    done = subprocess.run(
        [sys.executable, "-m", "migrations", "upgrade"],
        cwd=REPOSITORY,
        env={**os.environ, "MASKMILL_DATABASE_URL": postgres_server.url(TEMPLATE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"migrations failed:\n{done.stdout}{done.stderr}"
    return TEMPLATE


@pytest.fixture
def database_url(postgres_server: PostgresServer, migrated_template: str) -> Iterator[str]:
    """SQLAlchemy's URL of a fresh, migrated database. It is dropped with its connections."""
    yield from fresh_database(postgres_server, template=migrated_template)


@pytest.fixture
def empty_database_url(postgres_server: PostgresServer) -> Iterator[str]:
    """As `database_url`, before any migration."""
    yield from fresh_database(postgres_server, template="template1")


@pytest.fixture(scope="session")
def valkey_server(session_folder: Path) -> Iterator[ValkeyServer]:
    server = ValkeyServer(
        home=session_folder / "valkey",
        password=uuid.uuid4().hex,
        port=free_port(),
        log=session_folder / "valkey.log",
        durable=False,
    )
    server.prepare()
    supervisor = Supervisor(print)
    supervisor.start(server.spec())
    wait_until(server.is_ready, supervisor=supervisor)
    yield server
    supervisor.stop(["valkey"], seconds=10, hurry=threading.Event())


@pytest.fixture
def broker_url(valkey_server: ValkeyServer) -> str:
    """Of an empty broker."""
    with redis.Redis.from_url(valkey_server.url) as client:
        client.flushall()
    return valkey_server.url


def fresh_database(server: PostgresServer, *, template: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    execute(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield server.url(name)
    execute(server, f"DROP DATABASE {name} WITH (FORCE)")


def execute(server: PostgresServer, statement: str) -> None:
    with psycopg.connect(driver_url(server.url()), autocommit=True) as connection:
        connection.execute(statement.encode())


def driver_url(sqlalchemy_url: str) -> str:
    """What psycopg itself takes."""
    return sqlalchemy_url.replace("postgresql+psycopg://", "postgresql://", 1)


def wait_until(
    is_true: Callable[[], object], *, supervisor: Supervisor | None = None, seconds: float = 30
) -> None:
    """Looks every 20 ms. Fails early when a child of `supervisor` has died."""
    deadline = time.monotonic() + seconds
    while not is_true():
        if supervisor:
            supervisor.require_all_alive()
        assert time.monotonic() < deadline, f"waited {seconds} s in vain"
        time.sleep(0.02)
