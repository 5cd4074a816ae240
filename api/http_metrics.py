"""What this process answers, counted by route: paths and keys are nobody's business."""

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector

from storage.s3_counts import S3_COUNTS

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SECONDS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


class HttpMetrics:
    """With all else that is this process's own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._seconds = Histogram(
            "maskmill_http_request_duration_seconds",
            "Until the answer begins; its count is that of requests.",
            ["method", "route", "status"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        ProcessCollector(registry=self.registry)
        self.registry.register(S3_COUNTS)

    def answered(self, method: str, route: str, *, status: int, seconds: float) -> None:
        """Callers choose methods freely, and each would be a series of its own."""
        known = method if method in _METHODS else "other"
        self._seconds.labels(known, route, f"{status // 100}xx").observe(seconds)
