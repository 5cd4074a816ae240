"""What a worker process counts, and serves to Prometheus. All names are in this file, but for those
of requests to S3 (storage.s3_counts) and of the process itself (prometheus_client)."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol
from wsgiref.simple_server import WSGIServer

import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    start_http_server,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from domain.annotations import ImageOutcome
from domain.errors import ImageErrorCode, LeaseLost
from domain.stages import STAGES, Stage
from domain.version import code_version
from storage.fetching import FETCH_RETRIES
from storage.s3_counts import S3_COUNTS
from workers.memory import device_memory

if TYPE_CHECKING:
    from workers.engines import Engines

log = structlog.get_logger()

SUCCEEDED = "succeeded"
ENDS = ("completed", "unwanted", "given_back", "put_off", "failed", "lease_lost")
_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


class EmbeddingCounts(Protocol):
    """As workers.interactive.segmenter.Segmenter has them."""

    @property
    def hits(self) -> int: ...
    @property
    def misses(self) -> int: ...
    @property
    def embedding_bytes(self) -> dict[str, int]: ...


class WorkerMetrics:
    """Of one process. Counts of images are those of committed slices. Thread-safe."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        images = Counter(
            "maskmill_worker_images",
            "Images done, succeeded or by error code.",
            ["outcome"],
            registry=registry,
        )
        shards = Counter(
            "maskmill_worker_shards", "Shard runs, by how they ended.", ["end"], registry=registry
        )
        stages = Histogram(
            "maskmill_worker_stage_seconds",
            "Fetch, decode and encode of an image, network of a batch, commit of a slice.",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._images = {name: images.labels(name) for name in (SUCCEEDED, *ImageErrorCode)}
        self._shards = {name: shards.labels(name) for name in ENDS}
        self._stages = {name: stages.labels(name) for name in STAGES}
        self._instances = Counter(
            "maskmill_worker_instances", "Instances found in them.", registry=registry
        )
        self._planned_images = Counter(
            "maskmill_worker_planned_images",
            "Images put into shards.",
            registry=registry,
        )
        self._jobs = Counter(
            "maskmill_worker_jobs", "Jobs ended, by status.", ["status"], registry=registry
        )
        self._exports = Counter(
            "maskmill_worker_exports", "Exports ended, by status.", ["status"], registry=registry
        )
        self.images_in_flight = Gauge(
            "maskmill_worker_images_in_flight",
            "Images begun whose slice is not committed yet.",
            registry=registry,
        )
        self._renewals_failed = Counter(
            "maskmill_worker_lease_renewals_failed",
            "Renewals of leases that the database did not answer.",
            registry=registry,
        )
        self._last_renewal = Gauge(
            "maskmill_worker_last_lease_renewal_timestamp_seconds",
            "When a lease was renewed last; 0 before the first.",
            registry=registry,
        )
        self._last_message = Gauge(
            "maskmill_worker_last_message_timestamp_seconds",
            "When a message came last; 0 before the first.",
            registry=registry,
        )
        ProcessCollector(registry=registry)
        registry.register(S3_COUNTS)
        registry.register(FETCH_RETRIES)

    def watch(self, held: Collector) -> None:
        """What is looked at when somebody asks: Models, EmbeddingCache."""
        self.registry.register(held)

    def observe_stage(self, stage: Stage, seconds: float) -> None:
        self._stages[stage].observe(seconds)

    def images_done(self, outcomes: Iterable[ImageOutcome]) -> None:
        for outcome in outcomes:
            self._images[outcome.error_code or SUCCEEDED].inc()
            self._instances.inc(len(outcome.instances))

    def shard_ended(self, end: str) -> None:
        self._shards[end].inc()

    def shard_planned(self, *, images: int) -> None:
        self._planned_images.inc(images)

    def job_ended(self, status: str) -> None:
        self._jobs.labels(status).inc()

    def export_ended(self, status: str) -> None:
        self._exports.labels(status).inc()

    @contextmanager
    def renewing(self) -> Iterator[None]:
        """Around the renewal of a lease. One that is lost has been answered."""
        try:
            yield
        except LeaseLost:
            raise
        except Exception:
            self._renewals_failed.inc()
            raise
        self._last_renewal.set_to_current_time()

    def message_came(self) -> None:
        self._last_message.set_to_current_time()


class Models(Collector):
    """What `engines` has loaded, and the device's memory."""

    def __init__(self, engines: "Engines") -> None:
        self._engines = engines

    def collect(self) -> Iterator[Metric]:
        labels = ["model", "device", "version"]
        models = GaugeMetricFamily(
            "maskmill_worker_model_info", "1 for each model that is loaded.", labels=labels
        )
        for model, device in self._engines.loaded:
            models.add_metric([model, device, code_version()], 1)
        yield models
        memory = GaugeMetricFamily(
            "maskmill_worker_device_memory_bytes",
            "Of the CUDA device: what tensors have, what this process has, and all there is.",
            labels=["kind"],
        )
        for kind, byte_count in device_memory().items():
            memory.add_metric([kind], byte_count)
        yield memory


class EmbeddingCache(Collector):
    """Of an interactive worker."""

    def __init__(self, counts: EmbeddingCounts) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        found = CounterMetricFamily(
            "maskmill_worker_embedding_requests",
            "Images asked about that were seen already (hit) or had to be looked at (miss).",
            labels=["result"],
        )
        found.add_metric(["hit"], self._counts.hits)
        found.add_metric(["miss"], self._counts.misses)
        yield found
        kept = GaugeMetricFamily(
            "maskmill_worker_embedding_bytes", "What is kept of them, and where.", labels=["place"]
        )
        for place, byte_count in self._counts.embedding_bytes.items():
            kept.add_metric([place], byte_count)
        yield kept


def serve(metrics: WorkerMetrics, *, port: int) -> WSGIServer | None:
    """At `port` of every address; 0: nowhere. A port that is in use is no reason to do no work."""
    if port == 0:
        return None
    try:
        return start_http_server(port, registry=metrics.registry)[0]
    except OSError as error:
        log.warning("metrics.not_served", port=port, error=str(error))
        return None
