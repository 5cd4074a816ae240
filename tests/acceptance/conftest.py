"""The whole service as a user starts it, with quick leases so that deaths are noticed soon."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from domain.results import ImageRow, InstanceRow, iter_images, iter_instances
from maskmill.answers import Job
from maskmill.client import Client, dataset_source
from maskmill.embedded import EmbeddedStack, StackOptions
from maskmill.job_results import JobResults
from maskmill.sample_scenes import draw_scene
from tests.services import wait_until

if TYPE_CHECKING:
    from inference_sdk import InferenceHTTPClient  # takes long, and few tests need it

SCENES = 100
QUICK = {"MASKMILL_LEASE_SECONDS": "4", "MASKMILL_SWEEP_SECONDS": "1"}


@dataclass
class Service:
    """A running stack with what tests do to it."""

    stack: EmbeddedStack
    client: Client

    def link(self, folder: Path) -> str:
        done = self.stack.command(sys.executable, "-m", "api.datasets", "link", str(folder))
        found: str = loads(done.stdout)["id"]
        return found

    def submit_folder(self, folder: Path, *prompts: str) -> Job:
        return self.client.create_job(dataset_source(self.link(folder)), prompts or ("red circle",))

    def wait_for(self, job: Job, check: Callable[[Job], bool], *, seconds: float = 120) -> None:
        wait_until(lambda: check(self.client.get_job(job.id)), seconds=seconds)

    def finish(self, job: Job, *, seconds: float = 300) -> Job:
        return self.client.wait(job.id, timeout_seconds=seconds)

    def kill(self, name: str, number: int) -> None:
        os.kill(self.stack.process_ids()[name], number)

    def images(self, job: Job) -> list[ImageRow]:
        results = JobResults(self.client, job.id)
        parts = results.manifest().parts
        return [row for part in parts for row in iter_images(results.read_part(part.images.key))]

    def instances(self, job: Job) -> list[InstanceRow]:
        results = JobResults(self.client, job.id)
        parts = results.manifest().parts
        keys = [part.annotations.key for part in parts]
        return [row for key in keys for row in iter_instances(results.read_part(key))]


@contextmanager
def started(data: Path) -> Iterator[Service]:
    options = StackOptions(data=data, extra_environment=QUICK, durable=False, interactive=False)
    with EmbeddedStack(options) as stack, Client(stack.url, stack.api_key) as client:
        yield Service(stack, client)


@pytest.fixture(scope="session")
def service(session_folder: Path) -> Iterator[Service]:
    """Shared by tests of the group "service", since starting takes long. What dies in one of them
    comes back by itself."""
    with started(session_folder / "service") as service:
        yield service


@pytest.fixture(scope="session")
def clicks_stack(session_folder: Path) -> Iterator[EmbeddedStack]:
    """A running service for all tests of single-image requests, which leave nothing behind."""
    with EmbeddedStack(StackOptions(data=session_folder / "clicks", durable=False)) as stack:
        ready = f"{stack.url}/readiness"
        wait_until(lambda: httpx.get(ready, timeout=10).status_code == 200, seconds=120)
        yield stack


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 scenes of 256x256 with known objects: `draw_scene(number, size=256)`."""
    folder = tmp_path_factory.mktemp("scenes")
    for number in range(SCENES):
        content = draw_scene(number, size=256).encoded("JPEG")
        (folder / f"{number:04d}.jpg").write_bytes(content)
    return folder


def exactly_once(rows: list[ImageRow], count: int) -> Any:
    """Fails with the numbers that are missing or there twice."""
    indexes = [row.image_index for row in rows]
    missing = sorted(set(range(count)) - set(indexes))
    twice = sorted({index for index in indexes if indexes.count(index) > 1})
    assert (missing, twice) == ([], [])


@pytest.fixture
def sdk(clicks_stack: EmbeddedStack) -> "InferenceHTTPClient":
    from inference_sdk import InferenceHTTPClient

    return InferenceHTTPClient(api_url=clicks_stack.url, api_key=clicks_stack.api_key)


@pytest.fixture
def http(clicks_stack: EmbeddedStack) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=clicks_stack.url, params={"api_key": clicks_stack.api_key}, timeout=60
    ) as client:
        yield client
