"""POST /workflows/run: images leave the inputs, and everything wrong is said before a worker."""

import asyncio
import base64
import json
import threading
from typing import Any

import pytest

from api.workflows import service
from api.workflows.schemas import WorkflowBody
from domain.interactive import WorkflowRequest
from domain.workflows import WorkflowError
from tests.integration.api.interactive.conftest import PIXEL, PNG, Interactive, fetching
from tests.integration.storage.web_server import Request, at_most, serving

PATHS = ["/workflows/run", "/infer/workflows"]
SPECIFICATION: dict[str, Any] = {
    "version": "1.0",
    "inputs": [
        {"type": "WorkflowImage", "name": "image"},
        {"type": "WorkflowParameter", "name": "threshold", "default_value": 0.4},
    ],
    "steps": [
        {
            "type": "roboflow_core/sam3@v1",
            "name": "segment",
            "images": "$inputs.image",
            "class_names": ["dog"],
            "threshold": "$inputs.threshold",
        }
    ],
    "outputs": [{"type": "JsonField", "name": "found", "selector": "$steps.segment.predictions"}],
}
TEXT = PIXEL["value"]


def nested(levels: int) -> Any:
    value: Any = {}
    for _ in range(levels):
        value = {"a": value}
    return value


def body(image: Any = PIXEL, **changes: Any) -> dict[str, Any]:
    return {"specification": SPECIFICATION, "inputs": {"image": image}, **changes}


def asked(interactive: Interactive, document: dict[str, Any]) -> WorkflowRequest:
    answer = interactive.post(PATHS[0], document)
    assert answer.status_code == 200, answer.text
    request = interactive.asked()
    assert isinstance(request, WorkflowRequest)
    return request


@pytest.mark.parametrize("path", PATHS)
def test_the_answer_of_the_worker_is_passed_on(interactive: Interactive, path: str) -> None:
    answer = interactive.post(path, body())
    assert (answer.status_code, answer.json()) == (200, {"outputs": [{}], "profiler_trace": []})


@pytest.mark.parametrize(
    "image",
    [
        PIXEL,
        TEXT,
        {"value": TEXT},
        {"type": "url", "value": TEXT},
        f"data:image/png;base64,{TEXT}",
    ],
)
def test_an_image_is_text_or_an_object_and_its_type_is_ignored(
    interactive: Interactive, image: Any
) -> None:
    request = asked(interactive, body(image))
    assert request.inputs == {"image": 0}
    assert interactive.files() == (PNG,)


def test_a_list_is_a_batch_and_parameters_stay(interactive: Interactive) -> None:
    other = base64.b64encode(b"other").decode()
    inputs = {"image": [TEXT, PIXEL, other], "threshold": 0.7, "undeclared": 1}
    request = asked(interactive, body(inputs=inputs, excluded_fields=["x"], use_cache=True))
    assert request.inputs == {"image": [0, 1, 2], "threshold": 0.7}
    assert request.excluded_fields == ("x",)
    assert request.specification == SPECIFICATION
    assert interactive.files() == (PNG, PNG, b"other")


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (None, "no value is provided"),
        ([], "empty list"),
        ([[TEXT]], "`image.[0]`"),
        ([TEXT, "?"], "`image.[1]`. Could not load input image. Cause: Malformed base64"),
        (5, "Neither base64 nor a URL"),
        ("/etc/passwd", "Malformed base64"),
        ("http://example.com/a.jpg", "non https:// URL"),
        ({"type": "base64", "value": "https://127.0.0.1/"}, "URL without FQDN"),
        ([TEXT, "A" * 300_000], "An image may have 200000 bytes."),
        ([TEXT] * 257, "`image.[256]`. Could not load input image. Cause: A request may have 256"),
    ],
)
def test_a_bad_image_is_named(interactive: Interactive, image: Any, words: str) -> None:
    before = len(interactive.worker.taken)
    answer = interactive.post(PATHS[0], body(image))
    assert answer.status_code == 400, answer.text
    assert answer.json()["error_type"] == "RuntimeInputError"
    assert words in answer.json()["message"]
    assert len(interactive.worker.taken) == before


def test_an_unknown_block_is_refused_with_those_that_are_known(interactive: Interactive) -> None:
    step = {"type": "roboflow_core/ocr@v1", "name": "read", "images": "$inputs.image"}
    answer = interactive.post(
        PATHS[0], body(specification={**SPECIFICATION, "steps": [step], "outputs": []})
    )
    assert answer.status_code == 400
    assert answer.json()["error_type"] == "WorkflowSyntaxError"
    assert answer.json()["blocks_errors"][0]["block_id"] == "read"
    assert "roboflow_core/sam3@v1" in answer.text


@pytest.mark.parametrize("field", ["specification", "inputs"])
@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (..., "missing"),
        (None, "dict_type"),
        ([], "dict_type"),
        ("x", "dict_type"),
        ({"a": "\ud800"}, "value_error"),
        ({"a": [{"\udfff": 1}]}, "value_error"),
        ({"a": float("inf")}, "value_error"),
        ({"a": float("nan")}, "value_error"),
        (nested(65), "value_error"),
        (nested(200), "value_error"),
        (nested(900), "value_error"),
    ],
)
def test_specification_and_inputs_are_objects_that_can_be_sent_on(
    interactive: Interactive, field: str, value: Any, kind: str
) -> None:
    document = {name: v for name, v in body(**{field: value}).items() if v is not ...}
    answer = interactive.post(PATHS[0], content=json.dumps(document).encode())
    assert answer.status_code == 422, answer.text
    (entry,) = answer.json()["detail"]
    assert (entry["loc"], entry["type"]) == (["body", field], kind)


def test_slow_addresses_have_no_more_time_together_than_one_alone(
    interactive: Interactive,
) -> None:
    def slow(request: Request) -> None:
        request.server.over.wait(1.0)
        request.answer(200, PNG)

    with (
        serving(slow) as server,
        fetching(
            interactive, allowed_hosts=[server.host], allow_http_images=True, fetch_seconds=2.5
        ),
        at_most(8),
    ):
        answer = interactive.post(PATHS[0], body([server.url] * 20))
        assert answer.status_code == 400
        assert "Data pointed by URL could not be decoded" in answer.json()["message"]
        assert len(server.seen) < 5


def test_values_nested_64_deep_go_to_the_worker(interactive: Interactive) -> None:
    specification = {**SPECIFICATION, "unknown": nested(63)}
    inputs = {"image": TEXT, "threshold": 0.5, "undeclared": nested(63)}
    assert asked(interactive, body(specification=specification, inputs=inputs))


def test_outputs_to_leave_out_are_256_at_most(interactive: Interactive) -> None:
    answer = interactive.post(PATHS[0], body(excluded_fields=[1] * 50_000))
    assert answer.status_code == 422
    (entry,) = answer.json()["detail"]
    assert (entry["loc"], entry["type"]) == (["body", "excluded_fields"], "too_long")
    assert asked(interactive, body(excluded_fields=["x"] * 256))


def test_a_workflow_of_a_thousand_crops_is_refused_before_a_worker(
    interactive: Interactive,
) -> None:
    crop = {"type": "Crop", "predictions": "$steps.segment.predictions"}
    steps = [*SPECIFICATION["steps"]] + [
        {**crop, "name": f"crop{n}", "images": f"$steps.crop{n - 1}.crops"} for n in range(1000)
    ]
    answer = interactive.post(PATHS[0], body(specification={**SPECIFICATION, "steps": steps}))
    assert answer.status_code == 400
    assert answer.json()["error_type"] == "WorkflowSyntaxError"


def test_workflows_are_compiled_beside_the_event_loop() -> None:
    threads: set[str] = set()

    class Inputs(dict[str, Any]):
        def get(self, *given: Any) -> Any:
            threads.add(threading.current_thread().name)
            return super().get(*given)

    document = WorkflowBody.model_construct(specification=SPECIFICATION, inputs=Inputs())
    with pytest.raises(WorkflowError, match="no value is provided"):
        asyncio.run(service.run(None, None, document))  # type: ignore[arg-type]
    assert threads
    assert threading.current_thread().name not in threads
