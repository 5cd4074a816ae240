"""Servers that are not what they seem: every push ends, with one line, and the token stays."""

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic_core import to_json

from domain.exports import ExportFormat
from domain.formats import WRITERS
from maskmill.push import ProjectChoice, PushError, cvat, push_cvat, push_label_studio, server
from tests.unit.domain.hard_masks import FolderSink, image_rows, source_of

TOKEN = "f0e1d2c3" * 5
PERSONAL = "header.secret.signature"

Write = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def answering(write: Write) -> Iterator[str]:
    """The address of a server that answers everything by `write`."""

    class Handler(BaseHTTPRequestHandler):
        def handle_one(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            try:
                write(self)
            except OSError:  # the client has had enough
                self.close_connection = True

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_one  # noqa: N815

        def log_message(self, *_arguments: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as opened:
        opened.daemon_threads = True
        threading.Thread(target=opened.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{opened.server_port}"
        opened.shutdown()


def said(body: Any, *, status: int = 200, **headers: str) -> Write:
    content = body if isinstance(body, bytes) else to_json(body)

    def write(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"content_type": "application/json", **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("content-length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return write


Push = Callable[..., Any]


@pytest.fixture(params=[ExportFormat.LABEL_STUDIO, ExportFormat.CVAT])
def push(request: pytest.FixtureRequest, tmp_path: Path) -> Push:
    """`push(url)` of a small export to a server of either tool."""
    mask, to = np.eye(4, dtype=np.uint8), request.param
    source = source_of(
        [image_rows(0, "a.png", mask)], to, min_score=0.1, image_prefix="http://images/"
    )
    WRITERS[to](source, FolderSink(tmp_path / "export"))
    send = push_cvat if to is ExportFormat.CVAT else push_label_studio

    def call(url: str, *, token: str = TOKEN, **choice: Any) -> Any:
        project = ProjectChoice(**(choice or {"name": "scenes"}))
        return send(tmp_path / "export", url=url, token=token, project=project)

    return call


@pytest.mark.parametrize("token", [TOKEN, PERSONAL])
def test_a_redirect_to_another_host_is_not_followed(push: Push, token: str) -> None:
    heard: list[Any] = []

    def hear(handler: BaseHTTPRequestHandler) -> None:
        heard.append(dict(handler.headers))
        said({})(handler)

    with (
        answering(hear) as elsewhere,
        answering(said({}, status=302, location=f"{elsewhere}/api")) as url,
        pytest.raises(PushError, match=r"answers 302 .* moved to http") as refused,
    ):
        push(url, token=token)
    assert heard == []
    assert token not in str(refused.value)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Welcome</html>",
        b"[]",
        b"null",
        b'{"results": null}',
        {"results": [{}], "next": None},
        {"results": [{"id": "../../x", "name": "scenes", "title": "scenes"}], "next": None},
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_what_is_no_answer_of_the_tool_is_one_line(push: Push, body: Any) -> None:
    with (
        answering(said(body)) as url,
        pytest.raises(PushError, match=r"does not answer .*is this its address\?") as wrong,
    ):
        push(url)
    assert len(str(wrong.value)) < 500


def test_a_list_of_empty_pages_ends(push: Push) -> None:
    body = {"results": [], "next": "more"}
    with answering(said(body)) as url, pytest.raises(PushError, match="pages without end"):
        push(url)


def test_a_list_of_too_many_pages_ends(push: Push, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_MOST_PAGES", 5)
    numbers = count()

    def write(handler: BaseHTTPRequestHandler) -> None:
        one = {"id": next(numbers), "name": "other", "title": "other"}
        said({"results": [one], "next": "more"})(handler)

    with answering(write) as url, pytest.raises(PushError, match="more than 5 pages"):
        push(url)
    assert next(numbers) == 5


def test_a_list_of_tasks_that_never_come_ends(tmp_path: Path) -> None:
    source = source_of([image_rows(0, "a.png", np.eye(4, dtype=np.uint8))], LABEL_STUDIO)
    WRITERS[LABEL_STUDIO](source, FolderSink(tmp_path))
    config = (tmp_path / "label-config.xml").read_text()
    body = {"id": 1, "title": "scenes", "label_config": config, "tasks": [], "total": 9}
    with answering(said(body)) as url, pytest.raises(PushError, match="lists 0 of 9 tasks"):
        push_label_studio(tmp_path, url=url, token=TOKEN, project=ProjectChoice(id=1))


LABEL_STUDIO = ExportFormat.LABEL_STUDIO


@pytest.mark.parametrize("config", ["<View", "no XML", "<!DOCTYPE x [<!ENTITY a 'b'>]><View>&b;"])
def test_a_labelling_interface_that_is_no_xml_is_one_line(tmp_path: Path, config: str) -> None:
    WRITERS[LABEL_STUDIO](source_of([], LABEL_STUDIO), FolderSink(tmp_path))
    body = {"id": 1, "title": "scenes", "label_config": config}
    with answering(said(body)) as url, pytest.raises(PushError, match="is no XML"):
        push_label_studio(tmp_path, url=url, token=TOKEN, project=ProjectChoice(id=1))


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
@pytest.mark.parametrize("token", [TOKEN, PERSONAL])
def test_an_answer_that_is_too_large_is_not_read_to_its_end(
    push: Push, monkeypatch: pytest.MonkeyPatch, encoding: str, token: str
) -> None:
    monkeypatch.setattr(server, "_LARGEST_ANSWER_BYTES", 2**20)
    large = b" " * 2**24
    body = gzip.compress(large) if encoding == "gzip" else large
    with (
        answering(said(body, content_encoding=encoding)) as url,
        pytest.raises(PushError, match="does not end"),
    ):
        push(url, token=token)


def test_an_answer_that_drips_is_not_waited_for(
    push: Push, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_LONGEST_ANSWER_SECONDS", 0.2)

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b" ")
            threading.Event().wait(0.01)

    with answering(drip) as url, pytest.raises(PushError, match="does not end"):
        push(url)


def test_an_answer_that_cannot_be_unpacked_is_one_line(push: Push) -> None:
    with (
        answering(said(b"no gzip", content_encoding="gzip")) as url,
        pytest.raises(PushError, match="no answer from"),
    ):
        push(url)


def test_images_that_are_never_taken_are_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cvat, "_LONGEST_WAIT_SECONDS", 0.05)
    monkeypatch.setattr(cvat, "_POLL_SECONDS", 0.01)
    rows = [image_rows(0, "a.png", np.eye(4, dtype=np.uint8))]
    WRITERS[ExportFormat.CVAT](
        source_of(rows, ExportFormat.CVAT, image_prefix="http://images/"), FolderSink(tmp_path)
    )
    labels = [{"id": 1, "name": name} for name in ("red circle", "star")]

    def write(handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.path.partition("?")[0].rpartition("/")[2]
        listed = {"results": labels if wanted == "labels" else [], "next": None}
        one = {"id": 1, "name": "scenes", "rq_id": "1", "status": "queued"}
        said({**one, **listed})(handler)

    with (
        answering(write) as url,
        pytest.raises(PushError, match=r"could not take the images .*still queued; run it again"),
    ):
        push_cvat(tmp_path, url=url, token=TOKEN, project=ProjectChoice(id=1))


@pytest.mark.parametrize("token", [TOKEN, PERSONAL])
@pytest.mark.parametrize("status", [400, 401, 500, 503])
def test_a_server_that_says_the_token_aloud_is_not_repeated(
    push: Push, token: str, status: int
) -> None:
    heard = f"{'x' * 480} you sent {token} \x1b[31m"
    with (
        answering(said({"detail": heard}, status=status)) as url,
        pytest.raises(PushError) as refused,
    ):
        push(url, token=token)
    assert token[:8] not in str(refused.value)
    assert "\x1b" not in str(refused.value)


@pytest.mark.parametrize("token", ["sec ret", "sec\nret", "sécret", "a.sec\rret.b", "sec\x1bret"])
def test_a_token_that_no_header_can_hold_is_not_in_the_error(push: Push, token: str) -> None:
    with answering(said({})) as url, pytest.raises(PushError, match="MASKMILL_PUSH_TOKEN") as odd:
        push(url, token=token)
    assert "ret" not in str(odd.value)


def test_an_access_token_with_an_end_of_line_is_refused(tmp_path: Path) -> None:
    WRITERS[LABEL_STUDIO](source_of([], LABEL_STUDIO), FolderSink(tmp_path))
    with (
        answering(said({"access": "a\r\nX-Evil: 1"})) as url,
        pytest.raises(PushError, match="characters that no token has"),
    ):
        push_label_studio(tmp_path, url=url, token=PERSONAL, project=ProjectChoice(id=1))


@pytest.mark.parametrize("url", ["http://me:secret@127.0.0.1:1", "http://[::1", "labels", ""])
def test_an_address_that_is_none_is_one_line_without_its_password(push: Push, url: str) -> None:
    with pytest.raises(PushError, match="address") as wrong:
        push(url)
    assert "secret" not in str(wrong.value)
