"""A worker's runtime in this process: real PostgreSQL, a folder store, the demo network."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from domain.documents import JobPromptDocument
from domain.result_manifest import ResultManifest
from domain.results import ImageRow, InstanceRow, iter_images, iter_instances
from storage import datasets, jobs, keys, object_keys
from storage.jobs import Job, NewJob
from storage.results_store import results_store
from storage.settings import Settings
from workers import finish_run, planning_run, shard_run
from workers.runtime import Runtime, build_runtime

RED_CIRCLE = ({"text": "red circle"},)
IMAGES = 70  # of `job`


@dataclass
class Workplace:
    """Makes jobs and runs the workers' tasks by hand, one after the other."""

    runtime: Runtime
    folder: Path
    model: str = "demo-sam3"
    owner: str = field(init=False)

    def __post_init__(self) -> None:
        with self.runtime.database.begin() as connection:
            key = keys.add_key(connection, "tester", secret=keys.new_secret(), is_admin=False)
        self.owner = key.id

    def link(self, root: Path) -> str:
        with self.runtime.database.begin() as connection:
            return datasets.add_dataset(
                connection, self.owner, name="linked", local_root=str(root)
            ).id

    def submit(self, source: dict[str, Any], *, prompts: Any = RED_CIRCLE, **options: Any) -> Job:
        documents = [JobPromptDocument.model_validate(p).model_dump() for p in prompts]
        new = NewJob(self.owner, self.model, 0.1, documents, source, "0", **options)
        with self.runtime.database.begin() as connection:
            return jobs.create_job(connection, new)[0]

    def submit_folder(self, root: Path, **options: Any) -> Job:
        source: dict[str, Any] = {"type": "dataset", "id": self.link(root)}
        if "manifest" in options:
            source["manifest"] = options.pop("manifest")
        return self.submit(source, **options)

    def run(self, job: Job) -> Job:
        planning_run.plan_job(self.runtime, job.id)
        shard_run.run_shards(self.runtime)
        finish_run.finish_job(self.runtime, job.id)
        return self.again(job)

    def again(self, job: Job) -> Job:
        with self.runtime.database.begin() as connection:
            found = jobs.find_job(connection, job.id)
        assert found is not None
        return found

    def manifest(self, job: Job) -> ResultManifest:
        number = self.again(job).manifest_number
        store = results_store(job, settings=self.runtime.settings)
        return ResultManifest.model_validate_json(store.get(object_keys.manifest(number)))

    def images(self, job: Job) -> list[ImageRow]:
        store = results_store(job, settings=self.runtime.settings)
        parts = self.manifest(job).parts
        return [row for part in parts for row in iter_images(store.get(part.images.key))]

    def instances(self, job: Job) -> list[InstanceRow]:
        store = results_store(job, settings=self.runtime.settings)
        parts = self.manifest(job).parts
        return [row for part in parts for row in iter_instances(store.get(part.annotations.key))]

    def execute(self, statement: str) -> None:
        with self.runtime.database.begin() as connection:
            connection.execute(text(statement))

    def expire_leases(self) -> None:
        past = "lease_expires_at = now() - interval '1 second'"
        self.execute(f"UPDATE shards SET {past}; UPDATE jobs SET {past}")


def open_workplace(database_url: str, folder: Path, **settings: Any) -> Iterator[Workplace]:
    runtime = build_runtime(
        Settings(
            database_url=database_url,
            object_store=f"file://{folder}/objects",
            signing_secret="secret",
            **{"broker_url": "redis://127.0.0.1:1/0", **settings},
        )
    )
    yield Workplace(runtime, folder, runtime.settings.models[0])
    runtime.database.dispose()
    runtime.sources.close()


@pytest.fixture
def workplace(database_url: str, tmp_path: Path) -> Iterator[Workplace]:
    yield from open_workplace(
        database_url,
        tmp_path,
        allowed_sources=["s3://images"],
        allowed_outputs=["s3://results/masks"],
    )


@pytest.fixture
def null_workplace(database_url: str, tmp_path: Path) -> Iterator[Workplace]:
    """Its network answers at once, and `null://COUNT` gives it images of no bytes."""
    yield from open_workplace(
        database_url, tmp_path, allowed_sources=["null://"], models=["null", "null:20ms"]
    )


@pytest.fixture
def job(null_workplace: Workplace) -> Job:
    """One that is done."""
    uri = f"null://{IMAGES}"
    return null_workplace.run(null_workplace.submit({"type": "prefix", "uri": uri}))
