"""Masks into the tasks of a CVAT project (docs.cvat.ai/docs/api_sdk/api).

A task has two names: while it is made it is called unfinished, and one that is found under that
name is made again from the start. A finished one is never touched: people may have worked on it.
"""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import Field

from domain.formats.cvat import SCORE
from domain.printable import printable
from maskmill.client import FileProgress
from maskmill.push.cvat_file import CvatBatch, CvatFolder, Mask
from maskmill.push.outcome import Pushed, in_rounds
from maskmill.push.project import Project, ProjectChoice, find_project
from maskmill.push.server import Answer, AnswerT, PushError, Server, Token, in_requests

Json = dict[str, Any]

_NAME = "CVAT"
_UNFINISHED = " (unfinished)"
_PAGE = 100
_NUMBERS_AT_ONCE = 2_000_000  # of runs in a request; about 10 MB
_POLL_SECONDS, _LONGEST_POLL_SECONDS = 0.25, 5.0
_LONGEST_WAIT_SECONDS = 3600.0  # for the images of a task
_LEGACY_KEY = re.compile(r"[0-9a-f]{40}")
_SCORE_ATTRIBUTE = {
    "name": SCORE,
    "mutable": False,
    "input_type": "text",
    "default_value": "",
    "values": [],
}


def push_cvat(
    folder: Path,
    *,
    url: str,
    token: str,
    project: ProjectChoice,
    on_progress: FileProgress | None = None,
) -> Pushed:
    """Make the tasks of the export in `folder` that the project does not have yet. One that was
    cut short is called again. Raise `PushError`."""
    opened = CvatFolder.open(folder)
    scheme = "Token" if _LEGACY_KEY.fullmatch(token) else "Bearer"
    with Server(url, Token(scheme, token), name=_NAME) as server:
        push = _Push(server, opened, project, on_progress or (lambda _done, _total: None))
        return in_rounds(push.round)


class _Project(Project):
    organization: int | None = None


class _Attribute(Answer):
    id: int
    name: str


class _Label(Answer):
    id: int
    name: str
    attributes: list[_Attribute] = Field(default_factory=list)


class _Task(Answer):
    id: int
    name: str


class _Begun(Answer):
    rq_id: str


class _Request(Answer):
    status: str
    message: str | None = None


class _Frame(Answer):
    name: str


class _Images(Answer):
    frames: list[_Frame]


class _Push:
    def __init__(
        self, server: Server, folder: CvatFolder, choice: ProjectChoice, report: FileProgress
    ) -> None:
        self._server = server
        self._folder = folder
        self._choice = choice
        self._report = report
        self._sent = 0

    def round(self) -> Pushed:
        project_id = self._project_id()
        labels = self._labels(project_id)
        tasks = self._pages(_Task, "tasks", project_id=project_id)
        there = {task.name: task.id for task in tasks}
        done = 0
        for batch in self._folder.batches():
            if batch.name not in there:
                self._make(
                    batch, project_id, labels, unfinished=there.get(batch.name + _UNFINISHED)
                )
                self._sent += len(batch.frames)
            done += len(batch.frames)
            self._report(done, self._folder.images)
        url = f"{self._server.url}/projects/{project_id}"
        return Pushed(project_id, sent=self._sent, there=done - self._sent, url=url)

    # The project

    def _project_id(self) -> int:
        project = self._found_project() or self._new_project()
        if project.organization is not None:
            self._server.params["org_id"] = project.organization
        return project.id

    def _found_project(self) -> _Project | None:
        return find_project(
            self._server,
            self._choice,
            _Project,
            path=f"/api/projects/{self._choice.id}",
            among=self._pages(_Project, "projects", name=self._choice.name),
        )

    def _new_project(self) -> _Project:
        """With the export's labels."""
        labels = [
            {"name": label, "attributes": [_SCORE_ATTRIBUTE]} for label in self._folder.labels
        ]
        new = {"name": self._choice.name, "labels": labels}
        return self._server.post(_Project, "/api/projects", new)

    def _labels(self, project_id: int) -> dict[str, _Label]:
        found = self._pages(_Label, "labels", project_id=project_id)
        labels = {label.name: label for label in found}
        missing = [name for name in self._folder.labels if name not in labels]
        if missing:
            raise PushError(
                f"project {project_id} has no labels {', '.join(missing)}: add them there, or give "
                "--name for a new project"
            )
        return labels

    def _pages(self, kind: type[AnswerT], what: str, **query: Any) -> Iterator[AnswerT]:
        return self._server.pages(kind, f"/api/{what}", page_size=_PAGE, **query)

    # A task

    def _make(
        self,
        batch: CvatBatch,
        project_id: int,
        labels: dict[str, _Label],
        *,
        unfinished: int | None,
    ) -> None:
        if unfinished is not None:
            self._server.send("DELETE", f"/api/tasks/{unfinished}")
        new = {"name": batch.name + _UNFINISHED, "project_id": project_id}
        task_id = self._server.post(_Task, "/api/tasks", new).id
        self._attach_images(task_id, batch)
        frames = self._frame_numbers(task_id, batch)
        self._annotate(task_id, _shapes(batch, frames, labels))
        self._server.send(
            "PATCH", f"/api/tasks/{task_id}", repeatable=True, json={"name": batch.name}
        )

    def _attach_images(self, task_id: int, batch: CvatBatch) -> None:
        data = {
            "image_quality": 70,
            "use_cache": True,
            "sorting_method": "predefined",
            "remote_files": [frame.url for frame in batch.frames],
        }
        begun = self._server.post(_Begun, f"/api/tasks/{task_id}/data/", data)
        request = self._ended(begun.rq_id)
        if request.status != "finished":
            raise PushError(
                f"{_NAME} could not take the images of {batch.name}: {_reason(request)}"
            )

    def _ended(self, request_id: str) -> _Request:
        """Or what has not ended for so long that it may never end."""
        pause, deadline = _POLL_SECONDS, time.monotonic() + _LONGEST_WAIT_SECONDS
        while True:
            request = self._server.get(_Request, f"/api/requests/{quote(request_id, safe='')}")
            if request.status in ("finished", "failed") or time.monotonic() > deadline:
                return request
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_POLL_SECONDS)

    def _frame_numbers(self, task_id: int, batch: CvatBatch) -> dict[str, int]:
        """By file names, which CVAT keeps of an address, and which are unique in a batch."""
        frames = self._server.get(_Images, f"/api/tasks/{task_id}/data/meta").frames
        numbers = {frame.name.rpartition("/")[2]: n for n, frame in enumerate(frames)}
        for frame in batch.frames:
            if frame.file_name not in numbers:
                raise PushError(f"{_NAME} has taken no image {frame.file_name} into {batch.name}")
        return numbers

    def _annotate(self, task_id: int, shapes: Iterator[Json]) -> None:
        """The first request replaces what an answer lost on the way may have left behind."""
        path = f"/api/tasks/{task_id}/annotations/"
        first = True
        for some in in_requests(shapes, _numbers, most=_NUMBERS_AT_ONCE):
            body = {"version": 0, "tags": [], "shapes": some, "tracks": []}
            if first:
                self._server.send("PUT", path, repeatable=True, json=body)
            else:
                self._server.send("PATCH", path, params={"action": "create"}, json=body)
            first = False


def _reason(request: _Request) -> str:
    if request.status != "failed":
        return f"they are still {printable(request.status)}; run it again"
    message = (request.message or "").strip()
    return printable(message.splitlines()[-1]) if message else "it gives no reason"


def _numbers(shape: Json) -> int:
    return len(shape["points"])


def _shapes(batch: CvatBatch, numbers: dict[str, int], labels: dict[str, _Label]) -> Iterator[Json]:
    for frame in batch.frames:
        for mask in frame.masks:
            yield _shape(mask, numbers[frame.file_name], labels[mask.label])


def _shape(mask: Mask, frame: int, label: _Label) -> Json:
    """`points` are the run lengths, then the box with its last pixels."""
    scores = [attribute.id for attribute in label.attributes if attribute.name == SCORE]
    return {
        "type": "mask",
        "frame": frame,
        "label_id": label.id,
        "source": "auto",
        "group": 0,
        "occluded": False,
        "z_order": 0,
        "points": [*mask.runs, *mask.corners],
        "attributes": [{"spec_id": spec, "value": mask.score} for spec in scores],
    }
