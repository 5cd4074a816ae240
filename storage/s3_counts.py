"""Requests that this process made of S3, by operation; retries of one are requests too."""

from collections import Counter
from collections.abc import Iterator
from threading import Lock
from typing import Any

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector


class S3Counts(Collector):
    """Counts what the clients it watches are answered. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._requests: Counter[tuple[str, str]] = Counter()
        self._retries: Counter[str] = Counter()

    def watch(self, client: Any) -> None:
        client.meta.events.register("response-received.s3", self._count)

    def _count(self, *, event_name: str, response_dict: Any, context: Any, **_: Any) -> None:
        """botocore calls it for each answer, and for each request that got none."""
        operation = event_name.rpartition(".")[2]
        status = f"{response_dict['status_code'] // 100}xx" if response_dict else "none"
        with self._lock:
            self._requests[operation, status] += 1
            self._retries[operation] += context.get("retries", {}).get("attempt", 1) > 1

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "maskmill_s3_requests",
            "Requests to S3, by class of the answer's status; none where none came.",
            labels=["operation", "status"],
        )
        retries = CounterMetricFamily(
            "maskmill_s3_retries", "Those that were not the first try.", labels=["operation"]
        )
        with self._lock:
            for (operation, status), count in self._requests.items():
                requests.add_metric([operation, status], count)
            for operation, count in self._retries.items():
                retries.add_metric([operation], count)
        yield from (requests, retries)


S3_COUNTS = S3Counts()
