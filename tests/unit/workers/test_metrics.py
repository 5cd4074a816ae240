import socket
from types import SimpleNamespace
from typing import Any
from urllib.request import urlopen

import pytest
import torch
from prometheus_client import generate_latest
from structlog.testing import capture_logs

from domain.annotations import ImageOutcome, failure
from domain.errors import ImageErrorCode, LeaseLost
from maskmill.embedded.ports import free_port
from workers.metrics import EmbeddingCache, Models, WorkerMetrics, serve


def shown(metrics: WorkerMetrics) -> dict[str, float]:
    lines = generate_latest(metrics.registry).decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def test_images_are_counted_by_what_became_of_them() -> None:
    metrics = WorkerMetrics()
    assert shown(metrics)['maskmill_worker_images_total{outcome="timeout"}'] == 0, "before any"
    metrics.images_done([ImageOutcome(1, 1, 1), failure(ImageErrorCode.TIMEOUT, "too slow")])
    after = shown(metrics)
    assert after['maskmill_worker_images_total{outcome="succeeded"}'] == 1
    assert after['maskmill_worker_images_total{outcome="timeout"}'] == 1


def test_renewals_that_nobody_answered_are_counted_and_a_lost_lease_is_an_answer() -> None:
    metrics = WorkerMetrics()
    for error in (LeaseLost("job_1"), OSError("away")):
        with pytest.raises(type(error)), metrics.renewing():
            raise error
    failed = shown(metrics)
    assert failed["maskmill_worker_lease_renewals_failed_total"] == 1
    assert failed["maskmill_worker_last_lease_renewal_timestamp_seconds"] == 0
    with metrics.renewing():
        pass
    assert shown(metrics)["maskmill_worker_last_lease_renewal_timestamp_seconds"] > 0


def test_what_is_loaded_and_what_is_kept_is_looked_at_when_asked() -> None:
    metrics = WorkerMetrics()
    engines: Any = SimpleNamespace(loaded=[])
    metrics.watch(Models(engines))
    counts = SimpleNamespace(hits=3, misses=1, embedding_bytes={"device": 7, "host": 0})
    metrics.watch(EmbeddingCache(counts))
    assert not [name for name in shown(metrics) if "model_info" in name]
    engines.loaded = [("demo-sam3", "cpu")]
    counts.hits = 4
    after = shown(metrics)
    [info] = [name for name in after if "model_info" in name]
    assert 'model="demo-sam3"' in info
    assert 'device="cpu"' in info
    assert after['maskmill_worker_embedding_requests_total{result="hit"}'] == 4
    assert after['maskmill_worker_embedding_bytes{place="device"}'] == 7


def test_a_worker_serves_its_metrics_where_it_is_told() -> None:
    port = free_port()
    server = serve(WorkerMetrics(), port=port)
    assert server is not None
    try:
        with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            assert b"process_start_time_seconds" in answer.read()
    finally:
        server.shutdown()
        server.server_close()
    assert serve(WorkerMetrics(), port=0) is None


def test_a_port_in_use_is_a_warning_and_the_worker_works() -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        with capture_logs() as logs:
            assert serve(WorkerMetrics(), port=taken.getsockname()[1]) is None
    assert [(line["event"], line["log_level"]) for line in logs] == [
        ("metrics.not_served", "warning")
    ]


def test_a_cuda_devices_memory_is_shown_once_it_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    engines: Any = SimpleNamespace(loaded=[])
    metrics = WorkerMetrics()
    metrics.watch(Models(engines))
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    assert not [name for name in shown(metrics) if "device_memory" in name]
    answers = {"is_initialized": True, "memory_allocated": 1, "memory_reserved": 2}
    properties = SimpleNamespace(total_memory=3)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda answer=answer: answer)
    memory = {name: value for name, value in shown(metrics).items() if "device_memory" in name}
    prefix = "maskmill_worker_device_memory_bytes"
    assert memory == {
        f'{prefix}{{kind="allocated"}}': 1,
        f'{prefix}{{kind="reserved"}}': 2,
        f'{prefix}{{kind="total"}}': 3,
    }
