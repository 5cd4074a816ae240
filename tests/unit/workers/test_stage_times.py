import pytest
from prometheus_client import generate_latest

from workers.metrics import WorkerMetrics
from workers.stage_times import StageTimes


def test_what_fails_is_no_time_of_a_stage() -> None:
    metrics = WorkerMetrics()
    times = StageTimes(metrics)
    with times.stage("fetch"):
        pass
    with pytest.raises(OSError, match="away"), times.stage("fetch"):
        raise OSError("away")
    counted = 'maskmill_worker_stage_seconds_count{stage="fetch"} 1.0'
    assert counted in generate_latest(metrics.registry).decode()


def test_each_second_is_told_once() -> None:
    times = StageTimes(WorkerMetrics())
    times.observe("network", 2.0)
    times.observe("decode", 0.5)
    times.observe("network", 1.0)
    assert times.take() == {"network": 3.0, "decode": 0.5}
    assert times.take() == {}
