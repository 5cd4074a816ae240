"""The commands of docker-compose.yml, started by hand on real servers: S3 in, S3 out."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from domain.result_manifest import ResultManifest
from maskmill.client import Client
from maskmill.embedded.ports import free_port
from maskmill.job_results import JobResults
from maskmill.result_folder import write_result_folder
from maskmill.sample_scenes import draw_scene
from tests.s3_server import S3Bucket
from tests.services import REPOSITORY, wait_until

COMPOSE = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
_VARIABLE = re.compile(r"\$\{\w+:-([^}]*)\}")


def environment_of(name: str, **elsewhere: str) -> dict[str, str]:
    """The service's variables with their defaults; `elsewhere` is where the servers are here."""
    named = COMPOSE["services"][name]["environment"]
    defaults = {key: _VARIABLE.sub(r"\1", str(value)) for key, value in named.items()}
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MASKMILL_")}
    return {**kept, **defaults, **elsewhere}


def command_of(name: str) -> list[str]:
    words: list[str] = COMPOSE["services"][name]["command"]
    assert words[0] == "python"
    return [sys.executable, *words[1:]]


@contextmanager
def started(name: str, environment: dict[str, str], log: Path, *replaced: str) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command_of(name) + list(replaced), env=environment, stdout=output, stderr=output
        )
    try:
        yield
        assert process.poll() is None, log.read_text()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def run_to_end(name: str, environment: dict[str, str]) -> None:
    subprocess.run(command_of(name), env=environment, check=True, capture_output=True)


def test_the_commands_of_the_compose_file_label_a_bucket_into_a_bucket(
    empty_database_url: str, broker_url: str, s3_bucket: S3Bucket, tmp_path: Path
) -> None:
    port = free_port()
    elsewhere = {
        "MASKMILL_DATABASE_URL": empty_database_url,
        "MASKMILL_BROKER_URL": broker_url,
        "MASKMILL_S3_ENDPOINT_URL": s3_bucket.endpoint_url,
        "MASKMILL_S3_PUBLIC_URL": s3_bucket.endpoint_url,
        "MASKMILL_ALLOWED_OUTPUTS": f"{s3_bucket.uri}/labels",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    for once in ("bucket", "migrate"):
        run_to_end(once, environment_of(once, **elsewhere))
    scenes = [draw_scene(seed, size=256) for seed in range(12)]
    for number, scene in enumerate(scenes):
        key = f"shapes/{number:02d}.png"
        s3_bucket.client.put_object(Bucket="images", Key=key, Body=scene.encoded())
    with ExitStack() as services:
        for name in ("dispatcher", "planner", "worker"):
            environment = environment_of(name, **elsewhere)
            services.enter_context(started(name, environment, tmp_path / f"{name}.log"))
        environment = environment_of("api", **elsewhere)
        log = tmp_path / "api.log"
        services.enter_context(started("api", environment, log, "--port", str(port)))
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: _ready(url), seconds=60)
        done = label(url, bootstrap_key(environment), s3_bucket, tmp_path)
    check(done, tmp_path, s3_bucket, scenes)


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def bootstrap_key(environment: dict[str, str]) -> str:
    command = [sys.executable, "-m", "api.keys", "bootstrap"]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    found = re.search(r"mm_[\w-]+", done.stdout)
    assert found is not None
    return found[0]


def label(url: str, key: str, bucket: S3Bucket, folder: Path) -> Any:
    with Client(url, key) as client:
        job = client.create_job(
            "s3://images/shapes", ["circle", "square"], output=f"{bucket.uri}/labels"
        )
        job = client.wait(job.id, timeout_seconds=300)
        assert (job.status, job.counts.succeeded) == ("succeeded", 12)
        results = JobResults(client, job.id)
        write_result_folder(folder / "results", results, read_image=lambda _name: None)
    return job


def check(job: Any, folder: Path, bucket: S3Bucket, scenes: list[Any]) -> None:
    listed = bucket.client.list_objects_v2(Bucket=bucket.name, Prefix=f"labels/{job.id}/")
    keys = [entry["Key"] for entry in listed["Contents"]]
    manifest = ResultManifest.model_validate_json((folder / "results/manifest.json").read_text())
    expected = {file.key for part in manifest.parts for file in (part.annotations, part.images)}
    assert {key.removeprefix(f"labels/{job.id}/") for key in keys} == {
        *expected,
        "manifests/000001.json",
    }
    from pycocotools.coco import COCO

    coco = COCO(str(folder / "results/annotations.coco.json"))
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == [
        "circle",
        "square",
    ]
    assert len(coco.getImgIds()) == 12
    drawn = sum(o.shape in ("circle", "square") for scene in scenes for o in scene.objects)
    assert abs(len(coco.getAnnIds()) - drawn) <= 0.3 * drawn
