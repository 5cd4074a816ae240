"""A push to a real Label Studio, on SQLite."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from domain.exports import ExportFormat
from domain.formats.label_studio import write_label_studio
from maskmill.push import ProjectChoice, Pushed, PushError, label_studio, push_label_studio
from tests.unit.domain.hard_masks import FolderSink, hard_source, image_rows, source_of

TOKEN = "0123456789abcdef0123456789abcdef01234567"
STARTS_WITHIN_SECONDS = 300  # it makes its tables first
IMAGES = 25


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of it, signed in."""
    folder = tmp_path_factory.mktemp("label-studio")
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                str(Path(sys.executable).with_name("label-studio")),
                *("start", "--no-browser", "--port", str(port), "--host", url),
                *("--username", "a@example.com", "--password", "not-secret"),
                *("--user-token", TOKEN),
            ],
            env={
                **os.environ,
                "LABEL_STUDIO_BASE_DATA_DIR": str(folder),
                "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
                "COLLECT_ANALYTICS": "false",
                "LATEST_VERSION_CHECK": "false",
            },
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        client = httpx.Client(
            base_url=url, headers={"Authorization": f"Token {TOKEN}"}, trust_env=False, timeout=60
        )
        with client:
            _wait(client, process, folder / "log")
            yield client
    finally:
        process.terminate()
        process.wait(30)


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if client.get("/health").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(1)
    raise AssertionError(log.read_text(errors="replace")[-3000:])


def exported(folder: Path, **options: Any) -> Path:
    mask = np.eye(9, dtype=np.uint8)
    rows = [image_rows(number, f"{number}.png", mask, mask) for number in range(IMAGES)]
    options = {"min_score": 0.1, **options}
    write_label_studio(source_of(rows, ExportFormat.LABEL_STUDIO, **options), FolderSink(folder))
    return folder


def push(server: httpx.Client, folder: Path, token: str = TOKEN, **choice: Any) -> Pushed:
    project = ProjectChoice(**choice)
    return push_label_studio(folder, url=str(server.base_url), token=token, project=project)


def images(server: httpx.Client, project: int) -> list[str]:
    query = {"project": project, "page_size": 100}
    tasks = server.get("/api/tasks/", params=query).json()["tasks"]
    return sorted(task["data"]["image"] for task in tasks)


def results(server: httpx.Client, project: int) -> list[list[dict[str, Any]]]:
    """Of the predictions, in the order of their tasks."""
    predictions = server.get("/api/predictions/", params={"project": project}).json()
    return [one["result"] for one in sorted(predictions, key=lambda one: one["task"])]


@pytest.mark.parametrize("geometry", ["rle", "polygon"])
def test_predictions_arrive_as_they_were_written(
    server: httpx.Client, tmp_path: Path, geometry: str
) -> None:
    source = hard_source(ExportFormat.LABEL_STUDIO, geometry=geometry)
    write_label_studio(source, FolderSink(tmp_path))
    done = push(server, tmp_path, name=f"hard {geometry}")
    tasks = [task.json for task in label_studio._tasks(tmp_path)]
    found = results(server, done.project_id)
    assert len(found) == len(tasks) == 5
    for result, task in zip(found, tasks, strict=True):
        written = label_studio.from_json(task)["predictions"][0]["result"]
        assert [region["value"] for region in result] == [region["value"] for region in written]
        assert [region["score"] for region in result] == [region["score"] for region in written]


def test_a_push_that_was_cut_short_ends_with_each_task_once(
    server: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_studio, "_TASKS_AT_ONCE", 4)
    monkeypatch.setattr(label_studio, "_PAGE", 7)
    folder = exported(tmp_path)

    class Cut(Exception): ...

    def cut(done: int, _total: int) -> None:
        if done >= 12:
            raise Cut

    choice = ProjectChoice(name="cut")
    with pytest.raises(Cut):
        push_label_studio(
            folder, url=str(server.base_url), token=TOKEN, project=choice, on_progress=cut
        )
    again = push(server, folder, name="cut")
    assert (again.sent, again.there) == (13, 12)
    assert images(server, again.project_id) == sorted(f"{n}.png" for n in range(IMAGES))
    assert push(server, folder, name="cut").sent == 0


def test_another_view_comes_in_beside_the_first(server: httpx.Client, tmp_path: Path) -> None:
    first = push(server, exported(tmp_path / "first"), name="views")
    other = exported(tmp_path / "other", min_score=0.85)
    assert push(server, other, id=first.project_id).sent == IMAGES
    assert len(images(server, first.project_id)) == 2 * IMAGES


def test_errors_say_what_to_do(server: httpx.Client, tmp_path: Path) -> None:
    folder = exported(tmp_path)
    with pytest.raises(PushError, match=r"does not accept the token .*MASKMILL_PUSH_TOKEN"):
        push(server, folder, token="wrong", name="x")
    with pytest.raises(PushError, match="does not accept the token"):
        push(server, folder, token="wrong.jwt.token", name="x")
    with pytest.raises(PushError, match="has no project 99999"):
        push(server, folder, id=99999)


def test_a_personal_access_token_does_as_well(server: httpx.Client, tmp_path: Path) -> None:
    made = server.post("/api/token/")
    if not made.is_success:
        pytest.skip(f"this server gives none: {made.status_code} {made.text}")
    token = made.json()["token"]
    assert re.fullmatch(r"[^.]+\.[^.]+\.[^.]+", token)
    assert push(server, exported(tmp_path), token=token, name="personal").sent == IMAGES
