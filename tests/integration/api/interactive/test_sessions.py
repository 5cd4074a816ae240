"""The single-image routes for people who have signed in to the console."""

from collections.abc import Iterator

import pytest

from api.sessions import COOKIE, CSRF_HEADER
from tests.integration.api.interactive.conftest import PIXEL, Interactive

PATHS = ["/sam3/embed_image", "/workflows/run"]
BODIES = {
    "/sam3/embed_image": {"image": PIXEL},
    "/workflows/run": {
        "specification": {"version": "1.0", "inputs": [], "steps": [], "outputs": []},
        "inputs": {},
    },
}
NO_TOKEN = {"message": "With a session, send the header X-CSRF-Token that belongs to it."}


@pytest.fixture
def token(interactive: Interactive) -> Iterator[str]:
    """Of alice's session."""
    client = interactive.client
    client.post("/console/session", json={"api_key": interactive.key})
    yield client.get("/console/session").json()["csrf_token"]
    client.cookies.clear()


@pytest.mark.parametrize("path", PATHS)
def test_the_cookie_with_its_token_is_as_good_as_a_key(
    interactive: Interactive, token: str, path: str
) -> None:
    headers = {CSRF_HEADER: token}
    answer = interactive.client.post(path, json=BODIES[path], headers=headers)
    assert answer.status_code == 200, answer.text
    assert interactive.worker.taken[-1].request.key_id == interactive.api.alice_id


@pytest.mark.parametrize("path", [*PATHS, "/model/clear"])
@pytest.mark.parametrize("given", [None, "", "wrong", "é"])
def test_without_its_token_the_cookie_opens_nothing(
    interactive: Interactive, token: str, path: str, given: str | None
) -> None:
    headers = {} if given is None else {CSRF_HEADER: given.encode()}
    answer = interactive.client.post(path, json=BODIES.get(path), headers=headers)  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()) == (403, NO_TOKEN)


def test_a_key_of_ones_own_makes_the_cookie_irrelevant(
    interactive: Interactive, token: str
) -> None:
    body = {"image": PIXEL}
    bob = interactive.bobs_key
    for options in (
        {"params": {"api_key": bob}},
        {"headers": {"Authorization": f"Bearer {bob}"}},
        {"json": {**body, "api_key": bob}},
        {"params": {"api_key": bob}, "headers": {CSRF_HEADER: token}},
    ):
        answer = interactive.client.post(PATHS[0], **{"json": body, **options})  # type: ignore[arg-type]
        assert answer.status_code == 200, answer.text
        assert interactive.worker.taken[-1].request.key_id != interactive.api.alice_id
    bad = interactive.client.post(PATHS[0], json={**body, "api_key": "mm_of-nobody"})
    assert bad.status_code == 401


def test_a_cookie_that_is_none_of_ours_is_a_strangers(interactive: Interactive) -> None:
    headers = {"Cookie": f"{COOKIE}=x.y", CSRF_HEADER: "z"}
    answer = interactive.client.post(PATHS[0], json={"image": PIXEL}, headers=headers)
    assert answer.status_code == 401
    assert answer.json()["status"] == 401


def test_pages_of_other_origins_are_told_to_send_no_cookies(
    interactive: Interactive, token: str
) -> None:
    """Browsers drop an answer to a request with cookies unless this header is there."""
    origin = {"Origin": "https://elsewhere.example"}
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": CSRF_HEADER}
    preflight = interactive.client.options(PATHS[0], headers={**origin, **asked})
    answer = interactive.client.post(
        PATHS[0], json={"image": PIXEL}, headers={**origin, CSRF_HEADER: token}
    )
    for one in (preflight, answer):
        assert one.status_code == 200
        assert "access-control-allow-credentials" not in one.headers
    session = interactive.client.get("/console/session", headers=origin)
    assert session.status_code == 200
    assert not [name for name in session.headers if name.startswith("access-control")]
