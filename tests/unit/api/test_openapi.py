"""The schema that clients are generated from."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from api.app import create_app
from storage.settings import Settings

PUBLIC = {
    *("/", "/healthz", "/info", "/metrics", "/readiness", "/readyz"),
    *("/model/clear", "/v1/downloads/{token}", "/console/session"),
}
NO_JSON = {
    *("/metrics", "/v1/downloads/{token}"),
    "/v1/jobs/{job_id}/images/{image_index}/picture",
    "/v1/jobs/{job_id}/evaluations/{evaluation_id}/report.html",
}
READINESS = {"/readiness", "/readyz"}
SINGLE_IMAGES = {
    *("/sam3/concept_segment", "/sam3/visual_segment", "/sam3/embed_image"),
    *("/workflows/run", "/infer/workflows", "/model/clear"),
    *("/{workspace}/workflows/{workflow_id}", "/infer/workflows/{workspace}/{workflow_id}"),
}


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder: Path = tmp_path_factory.mktemp("objects")
    settings = Settings(
        database_url=SecretStr("postgresql+psycopg://nobody@127.0.0.1:1/none"),
        broker_url=SecretStr("redis://127.0.0.1:1/0"),
        object_store=folder.as_uri(),
        signing_secret=SecretStr("x"),
    )
    return create_app(settings).openapi()


def operations(schema: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, operation)
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    ]


def test_every_route_says_what_it_answers(schema: dict[str, Any]) -> None:
    for path, method, operation in operations(schema):
        good = {s: r for s, r in operation["responses"].items() if s.startswith("2")}
        assert good, (method, path)
        for status in good.keys() - {"204"}:
            content = good[status]["content"]
            if path not in NO_JSON:
                assert content["application/json"]["schema"].get("$ref"), (method, path)


def test_every_error_under_v1_is_a_problem(schema: dict[str, Any]) -> None:
    for path, method, operation in operations(schema):
        for status, response in operation["responses"].items():
            if status[0] in "23" or path in READINESS | SINGLE_IMAGES:
                continue
            content = response["content"]
            assert list(content) == ["application/problem+json"], (method, path, status)
            assert content["application/problem+json"]["schema"]["$ref"].endswith("/Problem")
    assert "HTTPValidationError" not in schema["components"]["schemas"]


def test_every_error_of_a_single_image_is_json_of_a_declared_shape(schema: dict[str, Any]) -> None:
    shapes = {"400": "Refusal", "401": "Unauthorized", "405": "WrongMethod", "422": "FieldRefusals"}
    for path in SINGLE_IMAGES:
        operation = schema["paths"][path]["post"]
        assert {"401", "405", "413", "500", "503"} <= set(operation["responses"])
        for status, response in operation["responses"].items():
            if status != "200":
                (media_type,) = response["content"]
                name = response["content"][media_type]["schema"]["$ref"].rpartition("/")[2]
                assert media_type == "application/json"
                assert name in {shapes.get(status, "Refusal"), "WorkflowRefusal"}


def test_a_single_images_key_may_be_in_query_or_header(schema: dict[str, Any]) -> None:
    for path in SINGLE_IMAGES - {"/model/clear"}:
        security = schema["paths"][path]["post"]["security"]
        assert security == [{"APIKeyQuery": []}, {"HTTPBearer": []}, {"APIKeyCookie": []}]


def test_every_route_under_v1_declares_its_key_and_common_errors(schema: dict[str, Any]) -> None:
    for path, method, operation in operations(schema):
        if path in PUBLIC:
            assert "security" not in operation
        if path in PUBLIC | SINGLE_IMAGES:
            continue
        assert operation["security"] == [{"HTTPBearer": []}, {"APIKeyCookie": []}], (method, path)
        assert {"401", "422", "503"} <= set(operation["responses"]), (method, path)
        if "{" in path:
            assert "404" in operation["responses"], (method, path)


def test_operation_ids_are_unique(schema: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(schema)]
    assert len(ids) == len(set(ids))
