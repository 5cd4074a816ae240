"""What the single-image lane counts, in Prometheus' text format. Needs no key: no name of a
caller, a key or an image is in it."""

from collections.abc import Iterator, Mapping

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from api.context import RequestContext
from storage.lane import LaneError

router = APIRouter(tags=["operations"])

_REQUESTS = "requests_"  # what FrontLane's counts of requests begin with


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(context: RequestContext) -> Response:
    """Of all processes together, since the broker was empty; without a broker only that."""
    try:
        collector = _LaneCounts(await context.lane.counts())
    except LaneError:
        collector = _LaneCounts(None)
    registry = CollectorRegistry()
    registry.register(collector)
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)


class _LaneCounts(Collector):
    """`counts` as FrontLane gives them; None where the broker is away."""

    def __init__(self, counts: Mapping[str, int] | None) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        yield _gauge("broker_up", "Whether the broker answers.", self._counts is not None)
        if self._counts is not None:
            yield from _lane_metrics(self._counts)


def _lane_metrics(counts: Mapping[str, int]) -> Iterator[Metric]:
    yield _requests(counts)
    yield _counter("refused_full", "Requests refused with 503: too many waited.", counts)
    yield _counter("retried", "Requests sent again because a worker was lost.", counts)
    yield _counter("embedding_hits", "Images that a worker had seen already.", counts)
    yield _counter("embedding_misses", "Images that a worker had to look at.", counts)
    hits, misses = counts.get("embedding_hits", 0), counts.get("embedding_misses", 0)
    ratio = hits / (hits + misses) if hits + misses else 0.0
    yield _gauge("embedding_hit_ratio", "Hits of hits and misses; 0 before the first.", ratio)
    yield _gauge("waiting", "Requests that no worker has taken yet.", counts["waiting"])
    yield _gauge("workers", "Workers that live.", counts["workers"])


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
    return GaugeMetricFamily(f"maskmill_interactive_{name}", help_, value=value)
