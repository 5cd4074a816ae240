"""How the service stands, in Prometheus' text format. Needs no key: no name of a caller, a key or
an image is in it.

What comes from PostgreSQL and the broker is the same whichever API process answers; requests over
HTTP and to S3 are those of the process that does.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import get_args

import structlog
from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from api.checks import store_disk
from api.context import RequestContext
from domain.lifecycle import OPEN_JOB
from storage.database import Database
from storage.lane import FrontLane, LaneError
from storage.presence import Role, Worker
from storage.settings import Settings
from storage.watching import ModelQueue, Waiting, Watched, of_all_models, watched

router = APIRouter(tags=["operations"])
log = structlog.get_logger("api")

_REQUESTS = "requests_"  # what FrontLane's counts of requests begin with


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(context: RequestContext) -> Response:
    """Of the queue and the lane together, and of this process."""
    state, counts = await context.watched(), await context.lane_counts()
    registry = CollectorRegistry()
    registry.register(ServiceMetrics(context.settings, state, counts))
    body = generate_latest(registry) + generate_latest(context.http_metrics.registry)
    return Response(body, media_type=CONTENT_TYPE_PLAIN_0_0_4)


async def lane_counts_or_none(lane: FrontLane) -> Mapping[str, int] | None:
    """None where the broker does not answer."""
    try:
        return await lane.counts()
    except LaneError:
        return None


def watched_or_none(database: Database) -> Watched | None:
    """None where the database does not answer."""
    try:
        with database.begin() as connection:
            return watched(connection)
    except SQLAlchemyError as error:
        log.warning("metrics.database_unavailable", error=type(error).__name__)
        return None


@dataclass(frozen=True, eq=False)
class ServiceMetrics(Collector):
    """`state` and `counts` (as FrontLane gives them) are None where PostgreSQL, or the broker, is
    away."""

    settings: Settings
    state: Watched | None
    counts: Mapping[str, int] | None

    def collect(self) -> Iterator[Metric]:
        yield _gauge("database_up", "Whether the database answers.", self.state is not None)
        if self.state is not None:
            yield from _queue_metrics(of_all_models(self.state, self.settings.models))
            yield from _job_metrics(self.state)
            yield from _delivery_metrics(self.state)
            yield _workers(self.state.workers)
        free = store_disk(self.settings).free_bytes
        yield _gauge("disk_free_bytes", "Where a folder store, else the process, lies.", free)
        yield _gauge(
            "interactive_broker_up", "Whether the broker answers.", self.counts is not None
        )
        if self.counts is not None:
            yield from _lane_metrics(self.counts)


def _queue_metrics(queues: Iterable[ModelQueue]) -> Iterator[Metric]:
    for name, help_, field in (
        ("shards_waiting", "Shards that no worker has taken.", "waiting_shards"),
        ("images_waiting", "Images in them.", "waiting_images"),
        ("leases_running", "Shards that a worker holds.", "running_leases"),
        ("leases_expired", "Shards whose worker fell silent.", "expired_leases"),
        ("oldest_shard_age_seconds", "How long one waits already.", "oldest_wait_seconds"),
        ("idle_seconds", "How long no slice was committed though work waits.", "idle_seconds"),
    ):
        family = GaugeMetricFamily(f"maskmill_{name}", help_, labels=["model"])
        for queue in queues:
            family.add_metric([queue.model], getattr(queue, field))
        yield family


def _job_metrics(state: Watched) -> Iterator[Metric]:
    jobs = GaugeMetricFamily("maskmill_jobs", "Open jobs, by status.", labels=["status"])
    for status in sorted(OPEN_JOB):
        jobs.add_metric([status], state.jobs.get(status, 0))
    yield jobs
    yield _gauge("jobs_paused", "Those of them that are paused.", state.paused_jobs)
    yield from _waiting(
        "unplanned_jobs", "unplanned_job", "Jobs without a planner.", state.unplanned
    )
    yield from _waiting(
        "exports_waiting", "waiting_export", "Exports that nobody makes yet.", state.waiting_exports
    )
    yield from _waiting(
        "exports_running", "running_export", "Exports that are made.", state.running_exports
    )
    yield from _waiting("bells", "bell", "Doorbells that nobody has rung.", state.bells)


def _delivery_metrics(state: Watched) -> Iterator[Metric]:
    said = "Webhook calls that should have been made."
    yield from _waiting("deliveries_due", "due_delivery", said, state.due_deliveries)
    said = "Webhook calls that failed and will be made again."
    yield _gauge("deliveries_retrying", said, state.retrying_deliveries)


def _workers(living: Iterable[Worker]) -> Metric:
    family = GaugeMetricFamily(
        "maskmill_workers", "That said in the last 20 s that they live, by role.", labels=["role"]
    )
    counts = Counter(worker.presence.role for worker in living)
    for role in get_args(Role):
        family.add_metric([role], counts[role])
    return family


def _waiting(name: str, one: str, help_: str, waiting: Waiting) -> Iterator[Metric]:
    yield _gauge(name, help_, waiting.count)
    yield _gauge(f"oldest_{one}_age_seconds", "How long that takes.", waiting.oldest_seconds)


def _lane_metrics(counts: Mapping[str, int]) -> Iterator[Metric]:
    yield _requests(counts)
    yield _counter("refused_full", "Requests refused with 503: too many waited.", counts)
    yield _counter("retried", "Requests sent again because a worker was lost.", counts)
    yield _counter("embedding_hits", "Images that a worker had seen already.", counts)
    yield _counter("embedding_misses", "Images that a worker had to look at.", counts)
    hits, misses = counts.get("embedding_hits", 0), counts.get("embedding_misses", 0)
    ratio = hits / (hits + misses) if hits + misses else 0.0
    said = "Hits of hits and misses; 0 before the first."
    yield _gauge("interactive_embedding_hit_ratio", said, ratio)
    said = "Requests that no worker has taken yet."
    yield _gauge("interactive_waiting", said, counts["waiting"])
    yield _gauge("interactive_workers", "Workers that live.", counts["workers"])


def _requests(counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(
        "maskmill_interactive_requests", "Requests taken, by kind.", labels=["kind"]
    )
    for kind in ("concept", "visual", "embed", "workflow"):
        family.add_metric([kind], counts.get(_REQUESTS + kind, 0))
    return family


def _counter(name: str, help_: str, counts: Mapping[str, int]) -> Metric:
    return CounterMetricFamily(f"maskmill_interactive_{name}", help_, value=counts.get(name, 0))


def _gauge(name: str, help_: str, value: float) -> Metric:
    return GaugeMetricFamily(f"maskmill_{name}", help_, value=value)
