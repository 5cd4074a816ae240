from types import SimpleNamespace
from typing import Any

from storage.settings import Settings
from storage.tracing import stop_tracing
from tests.integration.api.interactive.conftest import PIXEL, opened
from tests.otlp_receiver import OtlpReceiver
from workers.engine import load_engine
from workers.interactive.lane import InteractiveWorker, build_answers

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_single_image_is_one_trace_from_its_caller_to_the_network(
    interactive_settings: Settings, otlp: OtlpReceiver
) -> None:
    engines = SimpleNamespace(engine=lambda _: load_engine("demo-sam3", device="cpu", threads=1))
    with opened(interactive_settings) as interactive:
        lane = interactive.worker.lane
        held: Any = SimpleNamespace(settings=interactive_settings, lane=lane, engines=engines)
        worker = InteractiveWorker(lane, lambda: build_answers(held), end=lambda: None)
        worker.warm_up()
        interactive.worker.answer = worker.answer  # type: ignore[method-assign]
        answer = interactive.post(
            "/sam3/concept_segment",
            {"image": PIXEL, "prompts": [{"type": "text", "text": "star"}]},
            headers={"traceparent": CALLER},
        )
        assert answer.status_code == 200, answer.text
    stop_tracing()
    request = otlp.named("POST /sam3/concept_segment")
    answering = otlp.named("answer concept")
    _, trace_id, caller_id, _ = CALLER.split("-")
    assert {one.trace_id for one in otlp.spans} == {trace_id}
    assert (request.parent_id, answering.parent_id) == (caller_id, request.span_id)
    for name in ("look at image", "find masks"):
        assert otlp.named(name).parent_id == answering.span_id
    assert answering.attributes["maskmill.status"] == 200
    assert request.attributes["maskmill.key_id"] == answering.attributes["maskmill.key_id"]
