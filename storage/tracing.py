"""Traces, sent over HTTP to where OTEL_EXPORTER_OTLP_ENDPOINT says. Without it nothing is loaded.

The SDK reads its other OTEL_* variables itself (headers, sampler, resource attributes).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as SdkSpan

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

Kind = Literal["internal", "server", "consumer"]


class Span:
    """One that nobody records. Attributes without a dot in their name are put under `maskmill.`."""

    def set(self, **attributes: Any) -> None:
        pass

    def rename(self, name: str) -> None:
        pass

    def fail(self, reason: str) -> None:
        """`reason` is a name: messages of errors may hold addresses."""


class _RecordedSpan(Span):
    def __init__(self, span: "SdkSpan") -> None:
        self._span = span

    def set(self, **attributes: Any) -> None:
        for name, value in attributes.items():
            if value is not None:
                self._span.set_attribute(name if "." in name else f"maskmill.{name}", value)

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def fail(self, reason: str) -> None:
        from opentelemetry.trace import Status, StatusCode

        self._span.set_status(Status(StatusCode.ERROR, reason))


_UNRECORDED = Span()
_provider: "TracerProvider | None" = None


def configure_tracing(service_name: str) -> None:
    """Once per process, by its entry point; does nothing where no endpoint is named."""
    global _provider  # noqa: PLW0603  # as OpenTelemetry's own is the process's
    if _provider is not None or not any(os.environ.get(name) for name in _ENDPOINTS):
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    name = os.environ.get("OTEL_SERVICE_NAME") or service_name
    _provider = TracerProvider(resource=Resource.create({"service.name": name}))
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))


def stop_tracing() -> None:
    """Send what is left. A process that ends without it does the same as its last act."""
    global _provider  # noqa: PLW0603
    if _provider is not None:
        _provider.shutdown()
        _provider = None


@contextmanager
def span(
    name: str, *, parent: str | None = None, kind: Kind = "internal", **attributes: Any
) -> Iterator[Span]:
    """A span around the block, under `parent` (a W3C traceparent; one that cannot be read begins a
    trace of its own), else under the span around. What the block raises marks it as failed."""
    if _provider is None:
        yield _UNRECORDED
        return
    from opentelemetry.trace import SpanKind

    tracer = _provider.get_tracer("maskmill")
    with tracer.start_as_current_span(
        name,
        context=_context_of(parent) if parent else None,
        kind=SpanKind[kind.upper()],
        record_exception=False,
        set_status_on_exception=False,
    ) as sdk_span:
        recorded = _RecordedSpan(sdk_span)
        recorded.set(**attributes)
        try:
            yield recorded
        except Exception as error:
            recorded.fail(type(error).__name__)
            raise


def _context_of(traceparent: str) -> "Context":
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": traceparent}, Context())


def current_traceparent() -> str | None:
    """The span around, as others can go on from it; None where nothing is recorded."""
    if _provider is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent")


def current_trace_id() -> str | None:
    """For log lines: 32 hex digits."""
    traceparent = current_traceparent()
    return traceparent.split("-")[1] if traceparent else None
