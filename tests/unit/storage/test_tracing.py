import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog

from storage.tracing import configure_tracing, current_traceparent, span, stop_tracing
from tests.logs import logging_as
from tests.otlp_receiver import OtlpReceiver

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def logs() -> Iterator[None]:
    with logging_as("json"):
        yield


def test_without_an_endpoint_no_span_is_made_and_nothing_is_loaded() -> None:
    code = """
import sys
import storage.logs
from storage.tracing import *
configure_tracing("test")
with span("work", job_id="job_1") as made:
    made.set(images=1)
    made.fail("reason")
    assert current_traceparent() is None
stop_tracing()
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    environment = {"PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_spans_of_two_processes_are_one_trace(otlp: OtlpReceiver) -> None:
    configure_tracing("first")
    with span("request", kind="server") as request:
        request.rename("GET /route")
        request.set(**{"http.route": "/route"}, key_id=None)
        with span("step", images=3):
            handed_over = current_traceparent()
    stop_tracing()
    configure_tracing("second")
    with span("elsewhere", parent=handed_over):
        pass
    stop_tracing()
    request_, step = otlp.named("GET /route"), otlp.named("step")
    elsewhere = otlp.named("elsewhere")
    assert {one.trace_id for one in otlp.spans} == {request_.trace_id}
    assert (request_.parent_id, step.parent_id, elsewhere.parent_id) == (
        "",
        request_.span_id,
        step.span_id,
    )
    assert (request_.service, elsewhere.service) == ("first", "second")
    assert request_.attributes == {"http.route": "/route"}
    assert step.attributes == {"maskmill.images": 3}


def test_a_callers_trace_is_continued_and_nonsense_begins_one(otlp: OtlpReceiver) -> None:
    configure_tracing("test")
    for name, parent in (("known", PARENT), ("nonsense", "00-zz-1"), ("none", None)):
        with span(name, parent=parent):
            assert current_traceparent()
    stop_tracing()
    known = otlp.named("known")
    assert (known.trace_id, known.parent_id) == (PARENT.split("-")[1], PARENT.split("-")[2])
    assert otlp.named("nonsense").parent_id == otlp.named("none").parent_id == ""


def test_a_span_says_what_failed_but_not_in_which_words(otlp: OtlpReceiver) -> None:
    configure_tracing("test")
    with pytest.raises(ValueError, match="secret"), span("work"):
        raise ValueError("postgresql://user:secret@host")
    stop_tracing()
    assert otlp.named("work").failed
    assert "secret" not in repr(otlp.spans)


@pytest.mark.usefixtures("logs")
def test_log_lines_within_a_span_name_the_trace(
    otlp: OtlpReceiver, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_tracing("test")
    with span("work", parent=PARENT):
        structlog.get_logger("t").info("inside")
    structlog.get_logger("t").info("outside")
    stop_tracing()
    inside, outside = (json.loads(line) for line in capsys.readouterr().err.splitlines()[:2])
    assert inside["trace_id"] == PARENT.split("-")[1]
    assert "trace_id" not in outside


def test_a_collector_that_is_away_holds_nobody_up_for_long(
    otlp: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    configure_tracing("test")
    with span("lost"):
        pass
    stop_tracing()
    assert otlp.spans == []
