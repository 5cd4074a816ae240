"""The schema that clients are generated from."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from api.app import create_app
from storage.settings import Settings

PUBLIC = {"/", "/healthz", "/readyz", "/v1/downloads/{token}"}


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
        good = [r for status, r in operation["responses"].items() if status.startswith("2")]
        assert len(good) == 1, (method, path)
        content = good[0]["content"]
        if path != "/v1/downloads/{token}":
            assert content["application/json"]["schema"].get("$ref"), (method, path)


def test_every_error_is_a_problem(schema: dict[str, Any]) -> None:
    for path, method, operation in operations(schema):
        for status, response in operation["responses"].items():
            if status.startswith("2") or path == "/readyz":
                continue
            content = response["content"]
            assert list(content) == ["application/problem+json"], (method, path, status)
            assert content["application/problem+json"]["schema"]["$ref"].endswith("/Problem")
    assert "HTTPValidationError" not in schema["components"]["schemas"]


def test_every_route_under_v1_declares_its_key_and_common_errors(schema: dict[str, Any]) -> None:
    for path, method, operation in operations(schema):
        if path in PUBLIC:
            assert "security" not in operation
            continue
        assert operation["security"] == [{"HTTPBearer": []}], (method, path)
        assert {"401", "422", "503"} <= set(operation["responses"]), (method, path)
        if "{" in path:
            assert "404" in operation["responses"], (method, path)


def test_operation_ids_are_unique(schema: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(schema)]
    assert len(ids) == len(set(ids))
