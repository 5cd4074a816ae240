"""Real worker processes on real servers, for what only they can show."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from celery import Celery

from storage.jobs import Job
from storage.progress import Progress, progress_of
from tests.integration.workers.conftest import Workplace, open_workplace
from tests.services import REPOSITORY, wait_until
from workers import planning_run
from workers.publisher import publish


@dataclass
class Crew:
    """Nothing publishes but `publish`, and nothing sweeps."""

    workplace: Workplace
    bells: Celery
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, queue: str, **settings: str) -> subprocess.Popen[bytes]:
        """A worker that hears messages when this returns. `settings` are MASKMILL_*."""
        name = f"{queue}{len(self.processes)}@test"
        celery = ("-m", "celery", "-A", "workers.celery_app", "worker", "--pool=threads")
        process = self._start(
            *celery, "-c", "1", "-Q", queue, "-n", name, "--loglevel", "INFO", settings=settings
        )
        inspect = self.bells.control.inspect(destination=[name], timeout=0.3)
        wait_until(lambda: process.poll() is not None or inspect.ping(), seconds=60)
        assert process.poll() is None, self.log
        return process

    def start_dispatcher(self, **settings: str) -> subprocess.Popen[bytes]:
        return self._start("-m", "workers.dispatcher", settings=settings)

    def _start(self, *arguments: str, settings: dict[str, str]) -> subprocess.Popen[bytes]:
        held = self.workplace.runtime.settings
        environment = {
            **os.environ,
            "MASKMILL_DATABASE_URL": held.database_url.get_secret_value(),
            "MASKMILL_BROKER_URL": held.broker_url.get_secret_value(),
            "MASKMILL_OBJECT_STORE": held.object_store,
            "MASKMILL_SIGNING_SECRET": "secret",
            "MASKMILL_MODELS": ",".join(held.models),
            "MASKMILL_ALLOWED_SOURCES": "null://",
            "MASKMILL_LEASE_SECONDS": str(held.lease_seconds),
            "MASKMILL_SWEEP_SECONDS": "0.2",
            "MASKMILL_BULK_NICENESS": "0",
            "PYTHONUNBUFFERED": "1",
            **settings,
        }
        with self._log_path.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=REPOSITORY,
                env=environment,
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)
        return process

    def run_shards(self, **settings: str) -> subprocess.Popen[bytes]:
        """A process that does what a bulk worker does with one message, and ends."""
        code = "from workers import shard_run, runtime; shard_run.run_shards(runtime.runtime())"
        return self.run(code, **settings)

    def run(self, code: str, **settings: str) -> subprocess.Popen[bytes]:
        return self._start("-c", code, settings=settings)

    def plan(self, job: Job) -> Job:
        planning_run.plan_job(self.workplace.runtime, job.id)
        return job

    def progress(self, job: Job) -> Progress:
        with self.workplace.runtime.database.begin() as connection:
            return progress_of(connection, [job.id])[job.id]

    def publish(self) -> None:
        while publish(self.workplace.runtime.database, self.bells):
            pass

    @property
    def log(self) -> str:
        """Of all processes."""
        return self._log_path.read_text()

    @property
    def _log_path(self) -> Path:
        return self.workplace.folder / "crew.log"

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@contextmanager
def open_crew(
    database_url: str, broker_url: str, folder: Path, *, models: tuple[str, ...] = ("null",)
) -> Iterator[Crew]:
    workplaces = open_workplace(
        database_url,
        folder,
        broker_url=broker_url,
        allowed_sources=["null://"],
        models=list(models),
        lease_seconds=60.0,
    )
    workplace = next(workplaces)
    crew = Crew(workplace, Celery("bells", broker=broker_url, set_as_current=False))
    crew.bells.conf.update(task_serializer="json", task_default_queue="planning")
    try:
        yield crew
    finally:
        crew.stop()
        crew.bells.close()
        next(workplaces, None)
