"""The seconds that the stages of one run take: for the process's metrics, and for the job."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from domain.stages import Stage
from workers.metrics import WorkerMetrics


class StageTimes:
    """Of all threads together. Thread-safe."""

    def __init__(self, metrics: WorkerMetrics) -> None:
        self._metrics = metrics
        self._lock = threading.Lock()
        self._seconds: dict[Stage, float] = {}

    def observe(self, stage: Stage, seconds: float) -> None:
        self._metrics.observe_stage(stage, seconds)
        with self._lock:
            self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """Counts what ends well."""
        began = time.perf_counter()
        yield
        self.observe(stage, time.perf_counter() - began)

    def take(self) -> dict[Stage, float]:
        """What has come since this was last asked for."""
        with self._lock:
            taken, self._seconds = self._seconds, {}
        return taken
