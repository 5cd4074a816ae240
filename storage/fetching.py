"""An image is asked for until it comes, or it is clear that it does not."""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from threading import Lock

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from domain.fetching import Fetch
from storage.guarded_fetch import FetchFailed, FetchFailure
from storage.object_store import (
    BadCredentials,
    StoreError,
    StoreOverloaded,
    StoreTimeout,
    StoreUnavailable,
)
from storage.reading import Reading

_OVERLOADED, _TIMEOUT, _UNAVAILABLE = "overloaded", "timeout", "unavailable"
_MOST_TRIES = {_OVERLOADED: 8, _TIMEOUT: 3, _UNAVAILABLE: 4}
_REASONS = {
    FetchFailure.OVERLOADED: _OVERLOADED,
    FetchFailure.TIMEOUT: _TIMEOUT,
    FetchFailure.UNAVAILABLE: _UNAVAILABLE,
}


class FetchRetries(Collector):
    """Further tries at images, by what was wrong with the one before. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: Counter[str] = Counter()

    def note(self, reason: str) -> None:
        with self._lock:
            self._counts[reason] += 1

    def collect(self) -> Iterator[Metric]:
        metric = CounterMetricFamily(
            "maskmill_fetch_retries",
            "Further tries at images, by what was wrong with the one before.",
            labels=["reason"],
        )
        with self._lock:
            for reason in _MOST_TRIES:
                metric.add_metric([reason], self._counts[reason])
        yield metric


FETCH_RETRIES = FetchRetries()


def fetched(once: Callable[[Reading], bytes], *, fetch: Fetch, seconds: float) -> bytes:
    """What `once` returns; it is called again, with growing pauses, while it fails for reasons
    that pass. All tries together take `seconds`, and the last error is raised."""
    reading = Reading(fetch, seconds=seconds)
    for tries in count(1):
        try:
            return once(reading)
        except (StoreError, FetchFailed) as error:
            reason = _passing(error)
            if reason in {_OVERLOADED, _TIMEOUT}:
                reading.slow_down()
            if reason is None or tries >= _MOST_TRIES[reason] or reading.seconds_left() <= 0:
                raise
        FETCH_RETRIES.note(reason)
        reading.back_off(tries=tries)
    raise AssertionError("unreachable")


def _passing(error: StoreError | FetchFailed) -> str | None:
    match error:
        case FetchFailed():
            return _REASONS.get(error.kind)
        case BadCredentials():  # they were looked up again already
            return None
        case StoreOverloaded():
            return _OVERLOADED
        case StoreTimeout():
            return _TIMEOUT
        case StoreUnavailable():
            return _UNAVAILABLE
    return None
