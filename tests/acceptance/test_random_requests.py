"""Requests made at random from the service's own schema: no 5xx, no answer off the schema."""

import base64
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from maskmill.embedded import EmbeddedStack
from maskmill.sample_scenes import draw_scene

pytestmark = pytest.mark.xdist_group("clicks")  # they share a stack

IMAGE = {
    "type": "base64",
    "value": base64.b64encode(draw_scene(56, size=64).encoded()).decode(),
}
SEGMENT = ("/sam3/concept_segment", "/sam3/visual_segment", "/sam3/embed_image")
ROUTES = {
    *(("POST", path) for path in SEGMENT),
    ("POST", "/workflows/run"),
    ("POST", "/infer/workflows"),
    ("POST", "/infer/workflows/{workspace}/{workflow_id}"),
    ("POST", "/{workspace}/workflows/{workflow_id}"),
    ("POST", "/model/clear"),
    ("GET", "/info"),
    ("GET", "/readiness"),
    ("GET", "/metrics"),
    ("GET", "/console/session"),
    ("POST", "/console/session"),
    ("DELETE", "/console/session"),
}
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

often = settings(
    max_examples=40,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.fixture(scope="module")
def schema(clicks_stack: EmbeddedStack) -> BaseSchema:
    return schemathesis.openapi.from_url(f"{clicks_stack.url}/openapi.json")


def expect_conformance(case: schemathesis.Case, stack: EmbeddedStack) -> None:
    key = {"Authorization": f"Bearer {stack.api_key}"}
    case.call_and_validate(headers=key, checks=CHECKS, timeout=60)


def test_these_are_all_routes_outside_of_v1(schema: BaseSchema) -> None:
    served = {
        (method.upper(), path)
        for path, methods in schema.raw_schema["paths"].items()
        for method in methods
        if not path.startswith("/v1/") and path not in {"/", "/healthz", "/readyz"}
    }
    assert served == ROUTES


@pytest.mark.parametrize(("method", "path"), sorted(ROUTES))
def test_whatever_is_sent_the_answer_is_one_of_the_schemas(
    schema: BaseSchema, clicks_stack: EmbeddedStack, method: str, path: str
) -> None:
    @given(case=schema[path][method].as_strategy())
    @often
    def ask(case: schemathesis.Case) -> None:
        expect_conformance(case, clicks_stack)

    ask()


@pytest.mark.parametrize("path", SEGMENT)
def test_whatever_is_asked_of_a_real_image_the_answer_is_one_of_the_schemas(
    schema: BaseSchema, clicks_stack: EmbeddedStack, path: str
) -> None:
    """Reaches the network far more often than an image at random does."""

    @given(case=schema[path]["POST"].as_strategy())
    @often
    def ask(case: schemathesis.Case) -> None:
        body: Any = case.body
        if isinstance(body, dict):
            case.body = {**body, "image": IMAGE, "image_id": None}
        expect_conformance(case, clicks_stack)

    ask()
