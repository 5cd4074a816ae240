import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from maskmill.embedded.ports import free_port
from maskmill.embedded.supervisor import BackOff, Supervisor
from maskmill.embedded.valkey import ValkeyServer
from tests.services import wait_until


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    supervisor = Supervisor(print, back_off=BackOff(first_seconds=0.1))
    yield supervisor
    stop(supervisor)


@pytest.fixture
def server(tmp_path: Path) -> ValkeyServer:
    return ValkeyServer(
        home=tmp_path / 'val"key data',
        password="unmistakable-password",
        port=free_port(),
        log=tmp_path / "valkey.log",
    )


def start(server: ValkeyServer, supervisor: Supervisor) -> int:
    server.prepare()
    process_id = supervisor.start(server.spec()).pid
    wait_until(server.is_ready, supervisor=supervisor)
    return process_id


def stop(supervisor: Supervisor) -> None:
    supervisor.stop(["valkey"], seconds=10, hurry=threading.Event())


def set_and_write_out(server: ValkeyServer) -> None:
    """Returns when the value is in the file, not only in memory."""
    with redis.Redis.from_url(server.url) as client:
        client.set("kept", "7")
        assert client.execute_command("WAITAOF", 1, 0, 5000)[0] == 1


def test_what_was_queued_is_there_after_a_stop_and_a_start(
    server: ValkeyServer, supervisor: Supervisor
) -> None:
    start(server, supervisor)
    with redis.Redis.from_url(server.url) as client:
        client.set("kept", "7")
    stop(supervisor)
    start(server, supervisor)
    with redis.Redis.from_url(server.url) as client:
        assert client.get("kept") == b"7"


def test_what_was_queued_survives_sigkill_and_the_supervisor_starts_it_again_on_the_same_port(
    server: ValkeyServer, supervisor: Supervisor
) -> None:
    process_id = start(server, supervisor)
    set_and_write_out(server)
    os.kill(process_id, signal.SIGKILL)

    def is_back() -> bool:
        supervisor.look_after()
        return supervisor.process_ids().get("valkey", process_id) != process_id

    wait_until(is_back)
    wait_until(server.is_ready, supervisor=supervisor)
    with redis.Redis.from_url(server.url) as client:
        assert client.get("kept") == b"7"


def test_a_wrong_password_and_none_are_refused(
    server: ValkeyServer, supervisor: Supervisor
) -> None:
    start(server, supervisor)
    with (
        redis.Redis(port=server.port, password="wrong", retry=None) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()
    with (
        redis.Redis(port=server.port, retry=None) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()


def test_it_listens_on_loopback_alone_and_has_no_unix_socket(
    server: ValkeyServer, supervisor: Supervisor
) -> None:
    start(server, supervisor)
    with redis.Redis.from_url(server.url) as client:
        settings = client.config_get("bind", "unixsocket", "protected-mode")
    assert settings == {"bind": "127.0.0.1", "unixsocket": "", "protected-mode": "yes"}


def test_the_password_stands_on_no_command_line(
    server: ValkeyServer, supervisor: Supervisor
) -> None:
    start(server, supervisor)
    lines = subprocess.run(["ps", "axww"], capture_output=True, text=True, check=True).stdout
    assert "valkey" in lines
    assert server.password not in lines


def test_its_files_are_closed_to_other_users(server: ValkeyServer, supervisor: Supervisor) -> None:
    start(server, supervisor)
    assert server.home.stat().st_mode & 0o777 == 0o700
    assert (server.home / "valkey.conf").stat().st_mode & 0o777 == 0o600
