"""Against a stand-in; tests/readers pushes to a real Label Studio."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from domain.exports import ExportFormat
from domain.formats.label_studio import write_label_studio
from maskmill.push import ProjectChoice, Pushed, PushError, label_studio, push_label_studio
from tests.unit.domain.hard_masks import FolderSink, image_rows, source_of
from tests.unit.maskmill.push.http_server import Json, JsonServer, Refusal, page_of, serving

IMAGES = 25


class LabelStudio(JsonServer):
    """As much of its API as a push uses; tasks keep the order in which they came."""

    def __init__(self) -> None:
        super().__init__()
        self.token = "Token secret"
        self.projects: dict[int, Json] = {}
        self.tasks: dict[int, list[Json]] = {}
        self.largest = 10**9
        self.refreshes = 0

    def answer(
        self, method: str, path: str, query: Mapping[str, str], body: Any, token: str
    ) -> tuple[int, Any]:
        if path == "/api/token/refresh":
            return self._refresh(body)
        if token != self.token:
            raise Refusal(401, "Invalid token.")
        if path == "/api/projects/":
            return self._make(body) if method == "POST" else (200, page_of(self._all(), query))
        if path == "/api/tasks/":
            page = page_of(self.tasks[int(query["project"])], query)
            return 200, {"tasks": page["results"], "total": page["count"]}
        found = re.fullmatch(r"/api/projects/(\d+)(/|/import)", path)
        if found is None or int(found[1]) not in self.projects:
            raise Refusal(404, "Not found.")
        if found[2] == "/":
            return 200, self.projects[int(found[1])]
        return self._import(self.tasks[int(found[1])], body)

    def _refresh(self, body: Json) -> tuple[int, Any]:
        if body != {"refresh": "header.secret.signature"}:
            raise Refusal(401, "Token is invalid")
        self.refreshes += 1
        self.token = f"Bearer access-{self.refreshes}"
        return 200, {"access": f"access-{self.refreshes}"}

    def _all(self) -> list[Json]:
        return list(self.projects.values())

    def _make(self, body: Json) -> tuple[int, Json]:
        number = len(self.projects) + 1
        self.projects[number] = {"id": number, **body}
        self.tasks[number] = []
        return 201, self.projects[number]

    def _import(self, tasks: list[Json], body: list[Json]) -> tuple[int, Json]:
        if len(json.dumps(body)) > self.largest:
            raise Refusal(413, "Request Entity Too Large")
        tasks += body
        return 201, {"task_count": len(body)}


@pytest.fixture
def server() -> Iterator[LabelStudio]:
    opened = LabelStudio()
    with serving(opened):
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return exported(tmp_path / "export")


@pytest.fixture(autouse=True)
def _small_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_studio, "_TASKS_AT_ONCE", 4)
    monkeypatch.setattr(label_studio, "_PAGE", 3)


def exported(folder: Path, **options: Any) -> Path:
    mask = np.eye(4, dtype=np.uint8)
    rows = [image_rows(number, f"{number}.png", mask, mask) for number in range(IMAGES)]
    options = {"min_score": 0.1, **options}
    write_label_studio(source_of(rows, ExportFormat.LABEL_STUDIO, **options), FolderSink(folder))
    return folder


def push(server: LabelStudio, folder: Path, *, token: str = "secret", **choice: Any) -> Pushed:
    project = ProjectChoice(**(choice or {"name": "scenes"}))
    return push_label_studio(folder, url=server.url + "/", token=token, project=project)


def images(server: LabelStudio, project: int = 1) -> list[str]:
    return [task["data"]["image"] for task in server.tasks[project]]


ALL = [f"{number}.png" for number in range(IMAGES)]


def test_a_new_project_gets_every_task_once_and_the_labelling_config(
    server: LabelStudio, folder: Path
) -> None:
    pushed = push(server, folder)
    assert pushed == Pushed(1, sent=IMAGES, there=0, url=f"{server.url}/projects/1")
    assert images(server) == ALL
    assert server.tasks[1] == json.loads((folder / "tasks-00000.json").read_bytes())
    assert server.projects[1]["label_config"] == (folder / "label-config.xml").read_text()


def test_pushing_again_sends_nothing(server: LabelStudio, folder: Path) -> None:
    push(server, folder)
    again = push(server, folder)
    assert (again.sent, again.there) == (0, IMAGES)
    assert images(server) == ALL
    assert len(server.projects) == 1


def test_a_push_that_was_cut_short_goes_on(server: LabelStudio, folder: Path) -> None:
    push(server, folder)
    server.tasks[1] = server.tasks[1][:6]
    server.refused = [("POST", "/import", 500)]
    with pytest.raises(PushError, match=r"answers 500 to POST /api/projects/1/import: .*not now"):
        push(server, folder)
    assert push(server, folder).there == 6
    assert sorted(images(server)) == sorted(ALL)


@pytest.mark.parametrize(
    "lost", [("POST", "/import"), ("POST", "/api/projects/"), ("GET", "tasks")]
)
def test_an_answer_that_is_lost_doubles_nothing(
    server: LabelStudio, folder: Path, lost: tuple[str, str]
) -> None:
    server.lost = [lost]
    assert push(server, folder).sent == IMAGES
    assert images(server) == ALL
    assert len(server.projects) == 1


def test_a_server_that_is_away_for_a_moment_is_asked_again(
    server: LabelStudio, folder: Path
) -> None:
    server.refused = [("POST", "/import", 503), ("GET", "tasks", 502), ("POST", "/import", 429)]
    assert push(server, folder).sent == IMAGES
    assert images(server) == ALL


def test_other_tasks_of_the_project_are_left_alone(server: LabelStudio, folder: Path) -> None:
    push(server, folder)
    server.tasks[1].append({"data": {"image": "own.png"}})
    other = exported(folder.parent / "other", min_score=0.2)
    assert push(server, other).sent == IMAGES
    assert images(server) == [*ALL, "own.png", *ALL]


def test_what_is_too_large_goes_in_pieces(server: LabelStudio, folder: Path) -> None:
    server.largest = 1_500
    push(server, folder)
    assert images(server) == ALL


def test_a_task_that_is_too_large_alone_is_an_error(server: LabelStudio, folder: Path) -> None:
    server.largest = 10
    with pytest.raises(PushError, match="answers 413"):
        push(server, folder)


def test_a_wrong_token_is_an_error_that_names_the_variable(
    server: LabelStudio, folder: Path
) -> None:
    with pytest.raises(PushError, match=r"does not accept the token .*MASKMILL_PUSH_TOKEN"):
        push(server, folder, token="wrong")
    with pytest.raises(PushError, match="does not accept the token"):
        push(server, folder, token="header.wrong.signature")


def test_a_personal_token_is_exchanged_and_the_access_renewed_when_it_ends(
    server: LabelStudio, folder: Path
) -> None:
    push(server, folder, token="header.secret.signature")
    before = server.refreshes

    def end_access(_done: int, _total: int) -> None:
        server.token = "Bearer nothing"

    other = exported(folder.parent / "other", min_score=0.2)
    push_label_studio(
        other,
        url=server.url,
        token="header.secret.signature",
        project=ProjectChoice(id=1),
        on_progress=end_access,
    )
    assert server.refreshes > before + 1
    assert images(server) == [*ALL, *ALL]


def test_a_project_that_is_not_there_is_an_error(server: LabelStudio, folder: Path) -> None:
    with pytest.raises(PushError, match="has no project 7"):
        push(server, folder, id=7)


def test_a_project_needs_our_tag_and_labels(server: LabelStudio, folder: Path) -> None:
    push(server, folder)
    config = server.projects[1]["label_config"]
    server.projects[1]["label_config"] = config.replace("star", "moon")
    with pytest.raises(PushError, match="project 1 has no labels star in a <BrushLabels"):
        push(server, folder, id=1)
    server.projects[1]["label_config"] = config.replace("BrushLabels", "PolygonLabels")
    with pytest.raises(PushError, match="project 1 has no a <BrushLabels name='label'>"):
        push(server, folder, id=1)


def test_a_name_that_two_projects_have_is_an_error(server: LabelStudio, folder: Path) -> None:
    push(server, folder)
    server.projects[2] = {**server.projects[1], "id": 2}
    with pytest.raises(PushError, match="projects 1, 2 are all called 'scenes'"):
        push(server, folder)


def test_a_server_that_nobody_runs_is_an_error(folder: Path) -> None:
    with pytest.raises(PushError, match=r"no answer from Label Studio at http://127\.0\.0\.1:1"):
        push_label_studio(
            folder, url="http://127.0.0.1:1", token="secret", project=ProjectChoice(id=1)
        )


def test_progress_counts_all_tasks(server: LabelStudio, folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    push_label_studio(
        folder,
        url=server.url,
        token="secret",
        project=ProjectChoice(name="scenes"),
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[0] == (0, IMAGES)
    assert seen[-1] == (IMAGES, IMAGES)
    assert seen == sorted(seen)


def test_a_folder_with_something_else_in_it_is_an_error(
    server: LabelStudio, tmp_path: Path
) -> None:
    with pytest.raises(PushError, match="no export for Label Studio"):
        push(server, tmp_path)
