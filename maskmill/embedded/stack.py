"""The whole service on one machine: starts every process in order, keeps them, stops them."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

import maskmill
from maskmill.embedded.child import ChildSpec
from maskmill.embedded.data_folder import DataFolder, Secrets, default_data_folder
from maskmill.embedded.errors import StackError
from maskmill.embedded.ports import claimed_port, free_port
from maskmill.embedded.postgres import (
    PostgresServer,
    reachable_binaries,
    reachable_home,
    server_owner,
)
from maskmill.embedded.private_files import write_private
from maskmill.embedded.supervisor import LOOK_SECONDS, Supervisor, failure
from maskmill.embedded.valkey import ValkeyServer

# Children run here: `-m`, uvicorn and celery all look for modules in the working directory first,
# and a user's folder may well hold a package named api or workers.
CODE_FOLDER = Path(maskmill.__file__).parent.parent

# Children that are stopped together, first to last, with the seconds they get. Workers finish the
# batch in flight.
STOP_ORDER: tuple[tuple[tuple[str, ...], float], ...] = (
    (("bulk", "planner", "dispatcher"), 60.0),
    (("api",), 10.0),
    (("interactive",), 10.0),  # answers what the API still waits for
    (("valkey",), 10.0),
    (("postgres",), 20.0),
)

# Settings of the user's shell for other programs, which would change where or how ours run.
_FOREIGN_PREFIXES = ("PG", "CELERY_", "UVICORN_", "WEB_CONCURRENCY")


@dataclass(frozen=True)
class StackOptions:
    """`extra_environment` overrides every variable of the children; `durable=False` is for tests
    only: a crash of the machine may lose data, and starting is quicker. `port` 0 takes a free one.
    `interactive=False` leaves out the worker that answers single images, where only jobs are run.
    """

    data: Path = field(default_factory=default_data_folder)
    host: str = "127.0.0.1"
    port: int = 0
    extra_environment: Mapping[str, str] = field(default_factory=dict)
    announce: Callable[[str], None] = print
    start_seconds: float = 120.0
    durable: bool = True
    interactive: bool = True


def service_children(
    *, host: str, port: int, environment: Mapping[str, str], logs: Path
) -> list[ChildSpec]:
    """The processes of the service. To add one, add a row (and its place in STOP_ORDER)."""
    uvicorn = ("uvicorn", "api.app:create_app", "--factory", "--no-access-log")
    celery = (
        *("celery", "-A", "workers.celery_app", "worker", "--pool=threads"),
        *("--loglevel", "INFO", "--without-mingle", "--without-gossip"),
    )
    modules: dict[str, tuple[str, ...]] = {
        "api": (
            *(*uvicorn, "--timeout-graceful-shutdown", "5"),
            *("--host", host, "--port", str(port)),
        ),
        "dispatcher": ("workers.dispatcher",),
        "planner": (*celery, "-c", "4", "-Q", "planning", "-n", "planner@%h"),
        "bulk": (*celery, "-c", "1", "-Q", "bulk", "-n", "bulk@%h"),
        # With no more messages in hand than threads: others may be idle.
        "interactive": (
            *(*celery, "--disable-prefetch", "-c", "8"),
            *("-Q", "interactive", "-n", "interactive@%h"),
        ),
    }
    return [
        _python_child(name, arguments, environment=environment, logs=logs)
        for name, arguments in modules.items()
    ]


def preparing_children(
    *, api_key: str, environment: Mapping[str, str], logs: Path
) -> list[ChildSpec]:
    """Run once each, one after the other, before the service."""
    with_key = {**environment, "MASKMILL_BOOTSTRAP_KEY": api_key}
    bootstrap = ("api.keys", "bootstrap", "--name", "embedded")
    return [
        _python_child("migrations", ("migrations", "upgrade"), environment=environment, logs=logs),
        _python_child("first-key", bootstrap, environment=with_key, logs=logs),
    ]


def _python_child(
    name: str, arguments: tuple[str, ...], *, environment: Mapping[str, str], logs: Path
) -> ChildSpec:
    return ChildSpec(
        name=name,
        argv=(sys.executable, "-m", *arguments),
        environment=environment,
        log=logs / f"{name}.log",
        folder=CODE_FOLDER,
    )


class EmbeddedStack:
    """`with EmbeddedStack(StackOptions(...)) as stack:` runs it in the background, from entering
    (it answers then) to leaving. Raises StackError when it cannot start. Ctrl-C while it stops
    kills what is left.
    """

    def __init__(self, options: StackOptions | None = None) -> None:
        self.options = options or StackOptions()
        self.folder = DataFolder(self.options.data.expanduser().absolute())
        self.url = ""
        self.api_key = ""
        self.environment: dict[str, str] = {}
        self._supervisor = Supervisor(self.options.announce)
        self._failure: Exception | None = None
        # A daemon: an interpreter that leaves in spite of it takes the children with it.
        self._thread = threading.Thread(target=self._run, name="embedded stack", daemon=True)
        self._settled = threading.Event()
        self._ended = threading.Event()
        self._stopping = threading.Event()
        self._hurry = threading.Event()

    def __enter__(self) -> Self:
        try:
            self._thread.start()
            self._settled.wait()
        except BaseException:
            self.stop()
            raise
        self._raise_failure()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if kind is None:
            self._raise_failure()

    def stop(self) -> None:
        self._stopping.set()
        if not self._thread.is_alive():
            return
        try:
            self._ended.wait()
        except KeyboardInterrupt:
            self.options.announce("Killing what still runs")
            self._hurry.set()
            self._ended.wait()

    def wait(self) -> None:
        """Until the stack has ended, by `stop` or because it cannot go on (StackError)."""
        self._ended.wait()
        self._raise_failure()

    def process_ids(self) -> dict[str, int]:
        """By name, of the children that run now."""
        return self._supervisor.process_ids()

    def command(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Runs one command with the stack's environment, its address and its key.

        Raises StackError with its output when it fails.
        """
        done = subprocess.run(  # noqa: S603 - the caller's own command
            argv,
            cwd=CODE_FOLDER,
            env={
                **self.environment,
                "MASKMILL_URL": self.url,
                "MASKMILL_API_KEY": self.api_key,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise StackError(f"{' '.join(argv)} failed:\n{done.stdout}{done.stderr}")
        return done

    def _raise_failure(self) -> None:
        if self._failure:
            raise self._failure

    # What follows runs in the stack's own thread. It makes every child and lives as long as they
    # do, since the kernel ends them when the thread that made them ends.

    def _run(self) -> None:
        try:
            self.folder.prepare()
            with self.folder.locked() as lock:
                self._supervisor.kept_open = (lock,)
                self._serve()
        except Exception as error:  # handed to the thread that waits
            self._failure = error
        finally:
            self._settled.set()
            self._ended.set()

    def _serve(self) -> None:
        try:
            self._start()
            self._settled.set()
            while not self._stopping.wait(LOOK_SECONDS):
                self._supervisor.look_after()
        except _Stopped:
            pass
        finally:
            self._stop_all()

    def _start(self) -> None:
        options, secrets = self.options, self.folder.secrets()
        port = claimed_port(options.host, options.port)
        postgres, valkey = self._start_servers(secrets)
        self.environment = self._service_environment(secrets, postgres, valkey)
        self._leave_for_doctor()
        logs = self.folder.logs
        for child in preparing_children(
            api_key=secrets.api_key, environment=self.environment, logs=logs
        ):
            self._run_to_end(child)
        for child in service_children(
            host=options.host, port=port, environment=self.environment, logs=logs
        ):
            if options.interactive or child.name != "interactive":
                self._supervisor.start(child)
        self.url, self.api_key = f"http://{_in_url(options.host)}:{port}", secrets.api_key
        local = _local_url(options.host, port)
        with httpx.Client(base_url=local, timeout=5, trust_env=False) as client:
            self._wait_for(lambda: _answers(client), "The API")

    def _start_servers(self, secrets: Secrets) -> tuple[PostgresServer, ValkeyServer]:
        valkey = ValkeyServer(
            home=self.folder.valkey,
            password=secrets.valkey_password,
            port=free_port(),
            log=self.folder.logs / "valkey.log",
            durable=self.options.durable,
        )
        valkey.prepare()
        self._supervisor.start(valkey.spec())
        postgres = self._postgres(secrets)
        postgres.prepare()
        process_id = self._supervisor.start(postgres.spec()).pid
        self._wait_for(lambda: postgres.is_ready(process_id), "PostgreSQL")
        self._wait_for(valkey.is_ready, "Valkey")
        return postgres, valkey

    def _postgres(self, secrets: Secrets) -> PostgresServer:
        owner = server_owner()
        home = reachable_home(self.folder.postgres, secrets.instance, owner=owner)
        if home != self.folder.postgres:
            self.options.announce(
                f"PostgreSQL runs as the user nobody, who cannot enter {self.folder.path}: "
                f"its database is in {home}"
            )
        return PostgresServer(
            home=home,
            binaries=reachable_binaries(owner),
            owner=owner,
            password=secrets.postgres_password,
            port=free_port(),
            log=self.folder.logs / "postgres.log",
            durable=self.options.durable,
        )

    def _service_environment(
        self, secrets: Secrets, postgres: PostgresServer, valkey: ValkeyServer
    ) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN_PREFIXES)}
        return {
            **inherited,
            "PYTHONUNBUFFERED": "1",
            "MASKMILL_DATABASE_URL": postgres.url(),
            "MASKMILL_BROKER_URL": valkey.url,
            "MASKMILL_OBJECT_STORE": self.folder.objects.as_uri(),
            "MASKMILL_SIGNING_SECRET": secrets.signing_secret,
            **self.options.extra_environment,
        }

    def _leave_for_doctor(self) -> None:
        """What `maskmill doctor` has to know, with passwords: for this user's eyes only."""
        settings = {k: v for k, v in self.environment.items() if k.startswith("MASKMILL_")}
        write_private(self.folder.path / "service.json", json.dumps(settings))

    def _run_to_end(self, spec: ChildSpec) -> None:
        process = self._supervisor.start_once(spec)
        try:
            self._wait_for(lambda: process.poll() is not None, spec.name)
        finally:
            process.kill()  # if it still runs
            process.wait()
        if process.returncode != 0:
            raise failure(spec, process.returncode)

    def _wait_for(self, is_done: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + self.options.start_seconds
        while not is_done():
            self._supervisor.require_all_alive()
            if time.monotonic() > deadline:
                raise StackError(
                    f"{what} did not start in {self.options.start_seconds:g} s. "
                    f"The logs are in {self.folder.logs}."
                )
            if self._stopping.wait(LOOK_SECONDS):
                raise _Stopped

    def _stop_all(self) -> None:
        for names, seconds in STOP_ORDER:
            self._supervisor.stop(names, seconds=seconds, hurry=self._hurry)


class _Stopped(Exception):
    """`stop` was called while the stack was starting."""


def _answers(client: httpx.Client) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return client.get("/readyz").status_code == 200
    return False


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _local_url(host: str, port: int) -> str:
    """Where this machine reaches a server that listens on `host`."""
    local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared only
    return f"http://{_in_url(local)}:{port}"
