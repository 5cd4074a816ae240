import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
import redis

from maskmill.embedded import EmbeddedStack, StackError, StackOptions, stack
from maskmill.embedded.ports import free_port
from tests.integration.maskmill.embedded import stand_in_up
from tests.integration.maskmill.embedded.test_supervisor import is_gone
from tests.services import REPOSITORY, driver_url, wait_until

CHILDREN = {"postgres", "valkey", "api", "dispatcher", "planner", "bulk", "interactive"}


class Up:
    """`maskmill up` as a process of its own."""

    def __init__(self, data: Path, *arguments: str) -> None:
        argv = ["-m", stand_in_up.__name__, "--data", str(data), *arguments]
        self.data = data
        self.process = subprocess.Popen(
            [sys.executable, *argv],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        self.lines.extend(line.rstrip() for line in iter(self.process.stdout.readline, ""))

    def wait_for(self, line_start: str) -> None:
        def was_printed() -> bool:
            assert self.process.poll() is None, self.lines
            return any(line.startswith(line_start) for line in list(self.lines))

        wait_until(was_printed)

    def children(self) -> list[int]:
        path = Path(f"/proc/{self.process.pid}/task")
        lists = [(task / "children").read_text().split() for task in path.iterdir()]
        return [int(word) for words in lists for word in words]

    def wait(self) -> int:
        returncode = self.process.wait(timeout=60)
        self._reader.join()
        assert self.process.stdout
        self.process.stdout.close()
        return returncode

    def kill(self) -> None:
        self.process.kill()
        self.wait()


@pytest.fixture(scope="module")
def earlier_data(session_folder: Path) -> Path:
    """The data folder of a stack that ran before: starting on a copy takes a third of the time."""
    data = session_folder / "earlier"
    with pytest.MonkeyPatch.context() as monkeypatch:
        stand_in_up.stand_in(monkeypatch.setattr)
        with EmbeddedStack(StackOptions(data=data, durable=False)):
            pass
    return data


@pytest.fixture
def data(earlier_data: Path, open_folder: Path) -> Path:
    subprocess.run(["cp", "-a", earlier_data, open_folder / "data"], check=True)
    return open_folder / "data"


@pytest.fixture
def up(data: Path) -> Iterator[Up]:
    running = Up(data, "--port", "0")
    yield running
    running.process.terminate()
    running.wait()


@pytest.fixture
def options(data: Path, monkeypatch: pytest.MonkeyPatch) -> StackOptions:
    stand_in_up.stand_in(monkeypatch.setattr)
    return StackOptions(data=data, durable=False)


def test_up_prints_its_address_its_key_and_what_the_demo_model_knows(up: Up) -> None:
    up.wait_for("The model is demo-sam3: it only knows coloured shapes")
    assert re.fullmatch(r"Serving on http://127\.0\.0\.1:\d+", up.lines[0])
    assert re.fullmatch(r"API key: mm_[\w-]{43}", up.lines[1])
    assert up.lines[2] == f"Data folder: {up.data}"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_stops_every_child_in_order_and_says_so(up: Up, number: signal.Signals) -> None:
    up.wait_for("The model")
    children = up.children()
    assert len(children) == len(CHILDREN)
    up.process.send_signal(number)
    assert up.wait() == 0
    assert up.lines[-2:] == [
        "Stopping workers, API, Valkey, PostgreSQL (Ctrl-C again kills them)",
        "Stopped",
    ]
    assert all(is_gone(child) for child in children)
    for name in ("dispatcher", "planner", "bulk", "interactive"):
        assert "finished" in (up.data / "logs" / f"{name}.log").read_text()
    assert "database system is shut down" in (up.data / "logs" / "postgres.log").read_text()


def test_ctrl_c_while_starting_leaves_nothing_running(up: Up) -> None:
    old_log = (up.data / "logs" / "postgres.log").stat().st_size
    wait_until(lambda: (up.data / "logs" / "postgres.log").stat().st_size > old_log)
    children = up.children()
    up.process.send_signal(signal.SIGINT)
    assert up.wait() == 0
    assert up.lines[-1].startswith("Stopped")
    assert children
    assert all(is_gone(child) for child in children)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has PR_SET_PDEATHSIG")
def test_every_child_dies_with_up_and_the_next_up_starts_at_once(up: Up) -> None:
    up.wait_for("The model")
    children = up.children()
    up.kill()
    again = Up(up.data, "--port", "0")
    try:
        again.wait_for("The model")
        assert len(children) == len(CHILDREN)
        assert all(is_gone(child) for child in children)
        assert again.lines[1] == up.lines[1], "the key stays"
    finally:
        again.process.terminate()
        again.wait()


def test_a_second_up_on_the_same_folder_is_refused(up: Up) -> None:
    up.wait_for("The model")
    second = Up(up.data, "--port", "0")
    assert second.wait() == 1
    assert second.lines == [
        f"Error: Another stack (process {up.process.pid}) uses the data folder {up.data}. "
        "Stop it, or give another folder with --data."
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="looks in /proc")
def test_every_child_holds_the_folders_lock_until_it_is_gone(options: StackOptions) -> None:
    with EmbeddedStack(options) as running:
        for process_id in running.process_ids().values():
            files = [str(fd.readlink()) for fd in Path(f"/proc/{process_id}/fd").iterdir()]
            assert str(options.data / "lock") in files


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Interrupts as at a terminal, whatever a test before this one has made of the signal."""
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, earlier)


@pytest.mark.usefixtures("ctrl_c")
def test_a_second_ctrl_c_kills_what_does_not_stop(
    options: StackOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack, "STOP_ORDER", ((("bulk",), 600.0), *stack.STOP_ORDER))
    said: list[str] = []
    running = EmbeddedStack(replace(options, announce=said.append))
    with running:
        process_id = running.process_ids()["bulk"]
        os.kill(process_id, signal.SIGSTOP)
        # To the main thread, as from a terminal: any other would not wake it from its wait.
        main = threading.main_thread().ident
        threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGINT)).start()
    assert said == ["Killing what still runs"]
    assert is_gone(process_id)


def test_a_port_in_use_is_refused_and_the_option_named(data: Path) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as listener:
        port = listener.getsockname()[1]
        refused = Up(data, "--port", str(port))
        assert refused.wait() == 1
    assert f"Cannot listen on 127.0.0.1 port {port}" in refused.lines[0]
    assert "--port" in " ".join(refused.lines)


def test_a_killed_child_of_every_kind_comes_back_on_the_same_address(
    options: StackOptions,
) -> None:
    said: list[str] = []
    with EmbeddedStack(replace(options, announce=said.append)) as running:
        before = running.process_ids()
        assert set(before) == CHILDREN
        for process_id in before.values():
            os.kill(process_id, signal.SIGKILL)

        def all_are_back() -> bool:
            now = running.process_ids()
            return set(now) == CHILDREN and not set(now.values()) & set(before.values())

        wait_until(all_are_back)
        wait_until(lambda: opens(running.environment["MASKMILL_DATABASE_URL"]))
        with redis.Redis.from_url(running.environment["MASKMILL_BROKER_URL"]) as client:
            wait_until(client.ping)
    for name in CHILDREN:
        assert any(s.startswith(f"{name} ended (signal SIGKILL), starting it") for s in said)


def opens(url: str) -> bool:
    try:
        with psycopg.connect(driver_url(url)) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


def test_a_command_runs_with_the_stacks_environment(options: StackOptions) -> None:
    code = "import os; print(os.environ['MASKMILL_OBJECT_STORE'], os.environ['MASKMILL_DEVICE'])"
    extra = {"MASKMILL_DEVICE": "cpu"}
    with EmbeddedStack(replace(options, extra_environment=extra)) as running:
        printed = running.command(sys.executable, "-c", code).stdout
        assert printed == f"{(options.data / 'objects').as_uri()} cpu\n"
        with pytest.raises(StackError, match="no such image"):
            running.command(sys.executable, "-c", "raise SystemExit('no such image')")


def test_foreign_settings_of_the_shell_do_not_reach_the_children(
    options: StackOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PGHOSTADDR", "CELERY_BROKER_URL", "MASKMILL_DATABASE_URL", "WEB_CONCURRENCY"):
        monkeypatch.setenv(name, "192.0.2.1")
    monkeypatch.setenv("MASKMILL_LEASE_SECONDS", "5")
    with EmbeddedStack(options) as running:
        assert "192.0.2.1" not in running.environment.values()
        assert running.environment["MASKMILL_LEASE_SECONDS"] == "5"


def test_no_secret_stands_on_any_command_line(options: StackOptions) -> None:
    with EmbeddedStack(options) as running:
        secrets = running.folder.secrets()
        lines = [p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline") if p.exists()]
        words = [secrets.postgres_password, secrets.valkey_password, secrets.api_key]
        words.append(secrets.signing_secret)
        assert not [word for word in words for line in lines if word.encode() in line]


def test_a_preparation_that_fails_shows_its_log_and_leaves_nothing_running(
    options: StackOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stand_in_up, "PREPARATION", "raise SystemExit('cannot upgrade')")
    running = EmbeddedStack(options)
    with pytest.raises(StackError, match=r"migrations ended(?s:.*)cannot upgrade"), running:
        pass
    assert running.process_ids() == {}


def test_an_api_that_never_answers_is_given_up_with_the_place_of_the_logs(
    options: StackOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stand_in_up, "API", "import time; time.sleep(600)")
    impatient = replace(options, start_seconds=3)
    match = r"The API did not start in 3 s\. The logs are in .*logs"
    with pytest.raises(StackError, match=match), EmbeddedStack(impatient):
        pass


def test_an_exception_in_the_body_stops_the_stack_and_goes_on(options: StackOptions) -> None:
    children: list[int] = []

    def fail_inside() -> None:
        with EmbeddedStack(options) as running:
            children.extend(running.process_ids().values())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert len(children) == len(CHILDREN)
    assert all(is_gone(child) for child in children)


def test_what_is_stored_is_there_at_the_next_start(
    options: StackOptions, open_folder: Path
) -> None:
    options = replace(options, data=open_folder / "new")
    keys = []
    for statement in ("CREATE TABLE kept AS SELECT 7 AS number", "SELECT number FROM kept"):
        with EmbeddedStack(options) as running:
            url = driver_url(running.environment["MASKMILL_DATABASE_URL"])
            with psycopg.connect(url, autocommit=True) as connection:
                cursor = connection.execute(statement.encode())
            keys.append(running.api_key)
    assert cursor.fetchone() == (7,)
    assert keys[0] == keys[1]
