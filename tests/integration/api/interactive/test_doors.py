"""Addresses, methods, other origins, what is public, and what a lane without answers looks like."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from api.app import create_app
from storage.settings import Settings
from tests.integration.api.interactive.conftest import PIXEL, Interactive, opened
from tests.integration.storage.web_server import at_most
from tests.services import wait_until

POSTED = [
    "/sam3/concept_segment",
    "/sam3/visual_segment",
    "/sam3/embed_image",
    "/workflows/run",
    "/infer/workflows",
    "/team/workflows/count",
    "/infer/workflows/team/count",
    "/model/clear",
]
EMBED = "/sam3/embed_image"
ORIGIN = {"Origin": "https://page.example"}


@pytest.mark.parametrize("path", POSTED)
def test_other_methods_and_slashes_are_405_and_never_a_redirect(
    interactive: Interactive, path: str
) -> None:
    for method, address in (
        *((method, path) for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS")),
        ("POST", f"{path}/"),
        ("POST", f"/{path}"),
        ("POST", path.replace("/", "//")),
        ("POST", f"{path}/?api_key={interactive.key}"),
    ):
        url = f"http://testserver{address}"
        answer = interactive.client.request(method, url, headers=interactive.api.alice)
        assert (answer.status_code, answer.json()) == (405, {"detail": "Method Not Allowed"})
        assert (answer.headers["allow"], answer.headers["content-type"]) == (
            "POST",
            "application/json",
        )


def test_other_addresses_are_as_before(interactive: Interactive) -> None:
    unknown = interactive.client.post("/sam3/other")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
    wrong = interactive.client.delete("/v1/jobs")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")


def test_any_page_may_call_but_without_credentials(interactive: Interactive) -> None:
    asks = {
        **ORIGIN,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    for path in POSTED:
        asked = interactive.client.options(path, headers=asks)
        assert asked.status_code == 200
        assert asked.headers["access-control-allow-origin"] == "*"
        assert "authorization" in asked.headers["access-control-allow-headers"]
        answer = interactive.client.post(path, headers=ORIGIN)
        assert answer.headers["access-control-allow-origin"] == "*"
        for headers in (asked.headers, answer.headers):
            assert "access-control-allow-credentials" not in headers


def test_pages_may_call_nothing_else(interactive: Interactive) -> None:
    asks = {**ORIGIN, "Access-Control-Request-Method": "GET"}
    for path in ("/v1/jobs", "/v1/keys"):
        assert (
            "access-control-allow-origin"
            not in interactive.client.get(path, headers=ORIGIN).headers
        )
        assert interactive.client.options(path, headers=asks).status_code == 405


def test_the_operator_may_name_the_origins(interactive_settings: Settings) -> None:
    named = interactive_settings.model_copy(update={"cors_origins": ["https://ours.example"]})
    with TestClient(create_app(named)) as client:
        other = client.post(EMBED, headers=ORIGIN)
        ours = client.post(EMBED, headers={"Origin": "https://ours.example"})
    assert "access-control-allow-origin" not in other.headers
    assert ours.headers["access-control-allow-origin"] == "https://ours.example"


def test_the_server_says_what_it_is(interactive: Interactive) -> None:
    info = interactive.client.get("/info").json()
    assert set(info) == {"name", "version", "uuid"}
    assert all(isinstance(value, str) and value for value in info.values())
    assert interactive.client.get("/info").json() == info
    assert interactive.client.get("/healthz").json() == {"status": "healthy"}
    assert interactive.client.get("/readiness").json() == {"status": "ready"}
    assert interactive.client.get("/").status_code == 200


def test_a_named_workflow_is_not_found(interactive: Interactive) -> None:
    for path in ("/team/workflows/count", "/infer/workflows/team/count"):
        answer = interactive.post(path, {"inputs": {}, "use_cache": True})
        assert answer.status_code == 404
        assert "'team/count'" in answer.json()["message"]


def test_metrics_count_requests_and_embeddings(interactive: Interactive) -> None:
    before = metrics(interactive.client)
    interactive.post(EMBED, {"image": PIXEL})
    interactive.post("/sam3/visual_segment", {"image": PIXEL})
    after = metrics(interactive.client)
    grown = {name: after[name] - before.get(name, 0) for name in after}
    prefix = "maskmill_interactive_"
    assert grown[f'{prefix}requests_total{{kind="embed"}}'] == 1
    assert grown[f'{prefix}requests_total{{kind="visual"}}'] == 1
    assert grown[f'{prefix}requests_total{{kind="concept"}}'] == 0
    assert grown[f"{prefix}embedding_misses_total"] == 2
    assert after[f"{prefix}embedding_hit_ratio"] == 0
    assert (after[f"{prefix}broker_up"], after[f"{prefix}waiting"]) == (1, 0)


def metrics(client: TestClient) -> dict[str, float]:
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_a_full_lane_is_503_and_says_when_to_come_back(
    interactive_settings: Settings,
) -> None:
    settings = interactive_settings.model_copy(update={"interactive_bytes": 10})
    with opened(settings) as interactive:
        refused_for_now(interactive.post(EMBED, {"image": PIXEL}))
        assert metrics(interactive.client)["maskmill_interactive_refused_full_total"] >= 1
        assert not interactive.worker.taken


def test_a_silent_lane_is_503(interactive_settings: Settings) -> None:
    other = {"models": ["facebook/sam3"], "interactive_seconds": 0.5}
    settings = interactive_settings.model_copy(update=other)
    with TestClient(create_app(settings)) as client, opened(interactive_settings) as interactive:
        refused_for_now(client.post(EMBED, json={"image": PIXEL}, headers=interactive.api.alice))


def test_without_a_broker_single_images_wait_and_the_rest_goes_on(
    interactive: Interactive,
) -> None:
    away = interactive.api.settings.model_copy(
        update={"broker_url": SecretStr("redis://:secret-word@127.0.0.1:1/0")}
    )
    with TestClient(create_app(away), raise_server_exceptions=False) as client:
        headers = interactive.api.alice
        refused_for_now(client.post(EMBED, json={"image": PIXEL}, headers=headers))
        refused_for_now(client.post("/model/clear", headers=headers))
        of_the_lane = {n: v for n, v in metrics(client).items() if "maskmill_interactive" in n}
        assert of_the_lane == {"maskmill_interactive_broker_up": 0}
        ready = client.get("/readiness")
        assert (ready.status_code, ready.json()) == (503, {"status": "not_ready"})
        assert client.get("/v1/jobs", headers=headers).status_code == 200


def test_without_a_database_single_images_wait(settings: Settings) -> None:
    url = SecretStr("postgresql+psycopg://nobody:secret-word@127.0.0.1:1/none")
    away = settings.model_copy(update={"database_url": url})
    with TestClient(create_app(away), raise_server_exceptions=False) as client:
        answer = client.post(f"{EMBED}?api_key=mm_x", json={"image": PIXEL})
        refused_for_now(answer)
        assert "secret-word" not in answer.text


def test_requests_that_wait_hold_no_thread(interactive: Interactive) -> None:
    """More than FastAPI has threads, which the database and /readyz need."""
    before = requests(interactive)
    interactive.worker.may_answer.clear()
    with ThreadPoolExecutor(50) as callers:
        waiting = [callers.submit(interactive.post, EMBED, {"image": PIXEL}) for _ in range(50)]
        wait_until(lambda: requests(interactive) == before + 50)
        with at_most(3):
            assert interactive.client.get("/readyz").status_code == 200
            assert interactive.client.get("/v1/jobs", headers=interactive.api.alice).is_success
        assert not any(one.done() for one in waiting)
        interactive.worker.may_answer.set()
        assert {one.result().status_code for one in waiting} == {200}


def requests(interactive: Interactive) -> float:
    return metrics(interactive.client)['maskmill_interactive_requests_total{kind="embed"}']


def refused_for_now(answer: Any) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"message"}
    assert int(answer.headers["retry-after"]) >= 1
