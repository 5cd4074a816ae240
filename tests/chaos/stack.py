"""The embedded stack with two bulk workers, whose store is an S3 server behind a bad proxy."""

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import redis
from moto.server import ThreadedMotoServer

from maskmill.client import Client
from maskmill.embedded import EmbeddedStack, StackOptions
from maskmill.embedded.child import ChildSpec
from maskmill.embedded.stack import service_children
from maskmill.embedded.supervisor import LOOK_SECONDS, Supervisor
from storage.s3_store import s3_client
from tests.chaos.bad_store import BadStore, bad_store
from tests.chaos.schedule import Fault, Strike
from tests.s3_server import S3_ENVIRONMENT
from tests.services import driver_url

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

BUCKET, IMAGES = "service", "images"
LEASE_SECONDS = 4.0
SETTINGS = {
    "MASKMILL_LEASE_SECONDS": str(LEASE_SECONDS),
    "MASKMILL_SWEEP_SECONDS": "1",
    "MASKMILL_MODELS": "null",
    "MASKMILL_OBJECT_STORE": f"s3://{BUCKET}/data",
    "MASKMILL_ALLOWED_SOURCES": f"s3://{IMAGES}",
    "MASKMILL_FETCH_SECONDS": "10",
}


@dataclass
class ChaosStack:
    stack: EmbeddedStack
    client: Client
    store: BadStore
    objects: "S3Client"  # past the proxy
    second: "_SecondWorker"

    def strike(self, strike: Strike) -> None:
        """Do it, and undo after its time what ends by itself. What is dead already stays so."""
        with suppress(ProcessLookupError, KeyError):
            match strike.fault:
                case Fault.KILL:
                    os.kill(self._process_id(strike.target), signal.SIGKILL)
                case Fault.TERM:
                    os.kill(self._process_id(strike.target), signal.SIGTERM)
                case Fault.FREEZE:
                    self._freeze(strike)
                case Fault.FLUSH_BROKER:
                    self._flush_broker()
                case Fault.CUT_DATABASE:
                    self._cut_database()
                case Fault.STORE:
                    self.store.misbehave(strike.target, seconds=strike.lasting_seconds)

    def _process_id(self, name: str) -> int:
        return self.second.process_id() if name == "bulk2" else self.stack.process_ids()[name]

    def _freeze(self, strike: Strike) -> None:
        process_id = self._process_id(strike.target)
        os.kill(process_id, signal.SIGSTOP)

        def thaw() -> None:
            with suppress(ProcessLookupError):
                os.kill(process_id, signal.SIGCONT)

        self._later(strike, thaw)

    def _later(self, strike: Strike, work: Callable[[], None]) -> None:
        timer = threading.Timer(strike.lasting_seconds, work)
        timer.daemon = True
        timer.start()

    def _flush_broker(self) -> None:
        url = self.stack.environment["MASKMILL_BROKER_URL"]
        with suppress(redis.RedisError), redis.Redis.from_url(url) as broker:
            broker.flushall()

    def _cut_database(self) -> None:
        with suppress(psycopg.Error), self.database() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )

    def database(self) -> "psycopg.Connection[tuple[object, ...]]":
        url = driver_url(self.stack.environment["MASKMILL_DATABASE_URL"])
        return psycopg.connect(url, autocommit=True)


class _SecondWorker:
    """A bulk worker beside the stack's own, looked after in the same way."""

    def __init__(self, stack: EmbeddedStack, folder: Path) -> None:
        children = service_children(
            host="127.0.0.1", port=0, environment=stack.environment, logs=folder
        )
        (bulk,) = (child for child in children if child.name == "bulk")
        argv = tuple(word.replace("bulk@", "bulk2@") for word in bulk.argv)
        self._spec = ChildSpec("bulk2", argv, bulk.environment, folder / "bulk2.log", bulk.folder)
        self._supervisor = Supervisor(print)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def process_id(self) -> int:
        return self._supervisor.process_ids()["bulk2"]

    def _run(self) -> None:
        self._supervisor.start(self._spec)
        while not self._stopping.wait(LOOK_SECONDS):
            self._supervisor.look_after()
        self._supervisor.stop(["bulk2"], seconds=30, hurry=threading.Event())


@contextmanager
def chaos_stack(folder: Path, *, seed: int) -> Iterator[ChaosStack]:
    os.environ.update(S3_ENVIRONMENT)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    objects = s3_client(f"http://{host}:{port}")
    for bucket in (BUCKET, IMAGES):
        objects.create_bucket(Bucket=bucket)
    try:
        with bad_store(f"http://{host}:{port}", seed=seed) as store:
            settings = {**SETTINGS, "MASKMILL_S3_ENDPOINT_URL": store.url}
            options = StackOptions(
                data=folder / "data", extra_environment=settings, interactive=False
            )
            with EmbeddedStack(options) as stack, Client(stack.url, stack.api_key) as client:
                second = _SecondWorker(stack, folder)
                second.start()
                try:
                    yield ChaosStack(stack, client, store, objects, second)
                finally:
                    second.stop()
    finally:
        objects.close()
        moto.stop()
