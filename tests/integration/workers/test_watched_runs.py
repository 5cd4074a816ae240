"""What a run leaves for those who watch: numbers, log lines and spans."""

import json
import logging
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from prometheus_client import generate_latest
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

from domain.errors import ImageErrorCode
from domain.stages import STAGES
from maskmill.embedded.ports import free_port
from maskmill.sample_scenes import draw_scene
from storage import shards
from storage.timings import stage_seconds_of
from storage.tracing import configure_tracing, current_traceparent, span, stop_tracing
from tests.integration.api.conftest import job_body, opened_api, settings_for
from tests.integration.workers.conftest import Workplace
from tests.integration.workers.crew import open_crew
from tests.logs import logging_as
from tests.otlp_receiver import OtlpReceiver
from tests.services import wait_until
from workers import finish_run, planning_run, shard_run


@pytest.fixture
def logs() -> Iterator[None]:
    with logging_as("json"):
        yield


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    folder = tmp_path / "scenes"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.png").write_bytes(draw_scene(number, size=128).encoded())
    (folder / "4.png").write_bytes(b"not an image")
    return folder


def shown(workplace: Workplace) -> dict[str, float]:
    lines = generate_latest(workplace.runtime.metrics.registry).decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def test_a_run_counts_images_instances_shards_and_the_time_of_every_stage(
    workplace: Workplace, scenes: Path
) -> None:
    job = workplace.run(workplace.submit_folder(scenes))
    after = shown(workplace)
    worker = "maskmill_worker"
    assert after[f'{worker}_images_total{{outcome="succeeded"}}'] == 4
    assert after[f'{worker}_images_total{{outcome="unsupported"}}'] == 1
    assert after[f"{worker}_instances_total"] == len(workplace.instances(job))
    assert after[f'{worker}_shards_total{{end="completed"}}'] == 1
    assert after[f"{worker}_planned_images_total"] == 5
    assert after[f'{worker}_jobs_total{{status="succeeded"}}'] == 1
    assert after[f"{worker}_images_in_flight"] == 0
    count = f"{worker}_stage_seconds_count"
    assert after[f'{count}{{stage="fetch"}}'] == 5
    assert after[f'{count}{{stage="decode"}}'] == after[f'{count}{{stage="encode"}}'] == 4
    assert after[f'{count}{{stage="network"}}'] >= 1
    assert after[f'{count}{{stage="commit"}}'] >= 1
    assert workplace.runtime.engines.loaded == [("demo-sam3", "cpu")]
    with workplace.runtime.database.begin() as connection:
        kept = stage_seconds_of(connection, job.id)
    assert kept == pytest.approx(
        {stage: after[f'{worker}_stage_seconds_sum{{stage="{stage}"}}'] for stage in STAGES}
    )


def test_a_shard_that_is_put_off_or_lost_is_counted_as_that(
    null_workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    planning_run.plan_job(
        null_workplace.runtime,
        null_workplace.submit({"type": "prefix", "uri": "null://10"}).id,
    )

    def away(*_: object, **__: object) -> None:
        raise OperationalError("commit", None, OSError("away"))

    monkeypatch.setattr(shards, "commit_slice", away)
    shard_run.run_shards(null_workplace.runtime)
    after = shown(null_workplace)
    assert after['maskmill_worker_shards_total{end="put_off"}'] == 1
    assert after['maskmill_worker_images_total{outcome="succeeded"}'] == 0, "none is committed"
    assert after["maskmill_worker_images_in_flight"] == 0


@pytest.mark.usefixtures("logs")
def test_log_lines_of_a_run_say_whose_they_are_on_every_thread(
    workplace: Workplace,
    scenes: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = workplace.submit_folder(scenes)
    planning_run.plan_job(workplace.runtime, job.id)
    sources = type(workplace.runtime.sources)
    read = sources.read_image

    def talkative(*arguments: Any, **options: Any) -> bytes:
        logging.getLogger("library").warning("read")
        return read(*arguments, **options)

    monkeypatch.setattr(sources, "read_image", talkative)
    shard_run.run_shards(workplace.runtime)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    read_lines = [line for line in lines if line["event"] == "read"]
    assert len(read_lines) == 5
    assert {(line["job_id"], line["shard"]) for line in read_lines} == {(job.id, 0)}


@pytest.mark.usefixtures("logs")
def test_addresses_that_open_something_are_in_no_log_line_of_a_run(
    null_workplace: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    signed = "https://user:pass-word@127.0.0.1:1/a.png?X-Amz-Signature=sign-word"
    (folder / "refused.txt").write_text(signed)
    expired = f"{signed}&X-Amz-Date=20200101T000000Z&X-Amz-Expires=60&X-Amz-Algorithm=x"
    (folder / "expired.txt").write_text(expired)
    refused, _ = (
        null_workplace.run(null_workplace.submit_folder(folder, manifest=name))
        for name in ("refused.txt", "expired.txt")
    )
    [row] = null_workplace.images(refused)
    assert row.error_code is ImageErrorCode.FORBIDDEN
    said = capsys.readouterr().err
    assert "job.ended" in said
    assert [word for word in ("pass-word", "sign-word") if word in said] == []


def test_one_trace_leads_from_the_request_over_planning_and_shards_to_the_end(
    null_workplace: Workplace, otlp: OtlpReceiver, tmp_path: Path
) -> None:
    """The API sends its spans when it stops; the workers then are another service."""
    url = null_workplace.runtime.settings.database_url.get_secret_value()
    allowed = {"models": ["null"], "allowed_sources": ["null://"]}
    with opened_api(settings_for(url, tmp_path, **allowed)) as api:
        body = job_body(source={"type": "prefix", "uri": "null://300"})
        job = api.create_job(**body)
    configure_tracing("maskmill-worker")
    with closing(null_workplace.runtime.sources):
        planning_run.plan_job(null_workplace.runtime, job["id"])
        shard_run.run_shards(null_workplace.runtime)
        finish_run.finish_job(null_workplace.runtime, job["id"])
    stop_tracing()
    request = otlp.named("POST /v1/jobs")
    assert request.service == "maskmill-api"
    assert request.attributes["http.response.status_code"] == 202
    own = [one for one in otlp.spans if one.trace_id == request.trace_id]
    children = {one.name for one in own if one.parent_id == request.span_id}
    assert children == {"plan job", "run shard", "finish job"}
    assert {one.service for one in own} == {"maskmill-api", "maskmill-worker"}
    shard_spans = sorted(
        (one for one in own if one.name == "run shard"),
        key=lambda one: one.attributes["maskmill.shard"],
    )
    assert [one.attributes["maskmill.images"] for one in shard_spans] == [256, 44]
    assert shard_spans[0].attributes["maskmill.model"] == "null"
    assert shard_spans[0].attributes["maskmill.failures"] == 0
    commits = [one for one in own if one.name == "commit slice"]
    assert {one.parent_id for one in commits} == {one.span_id for one in shard_spans}
    assert len(own) < 30, "no span for each image"


def test_a_real_worker_serves_numbers_and_sends_its_spans_before_it_ends(
    database_url: str, broker_url: str, tmp_path: Path, otlp: OtlpReceiver
) -> None:
    port = free_port()
    with open_crew(database_url, broker_url, tmp_path) as crew:
        worker = crew.start(
            "bulk", MASKMILL_WORKER_METRICS_PORT=str(port), MASKMILL_LOG_FORMAT="json"
        )
        configure_tracing("maskmill-api")
        with span("POST /v1/jobs"):
            traceparent = current_traceparent()
        stop_tracing()
        job = crew.workplace.submit({"type": "prefix", "uri": "null://10"})
        crew.workplace.execute(f"UPDATE jobs SET traceparent = '{traceparent}'")
        crew.plan(job)
        crew.publish()
        wait_until(lambda: crew.progress(job).succeeded == 10)
        with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            numbers = answer.read().decode()
        worker.send_signal(signal.SIGTERM)
        worker.wait(30)
        log = crew.log
    assert 'maskmill_worker_images_total{outcome="succeeded"} 10.0' in numbers
    assert 'maskmill_worker_model_info{device="none",model="null"' in numbers
    assert "maskmill_worker_last_message_timestamp_seconds 1." in numbers
    run, made = otlp.named("run shard"), otlp.named("POST /v1/jobs")
    assert (run.service, made.service) == ("maskmill-worker", "maskmill-api")
    assert (run.trace_id, run.parent_id) == (made.trace_id, made.span_id)
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    passwords = [make_url(url).password for url in (database_url, broker_url)]
    assert all(passwords)
    assert [password for password in passwords if str(password) in log] == []
    ended = [line for line in lines if "succeeded in" in line["event"]]
    assert {(line["task"], line["model"]) for line in ended} == {("maskmill.run_shards", "null")}
