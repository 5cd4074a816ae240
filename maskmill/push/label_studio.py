"""Tasks with predictions into a Label Studio project (api.labelstud.io)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

from pydantic import Field
from pydantic_core import from_json

from domain.formats.label_studio import FROM_NAME, TASK_ID
from maskmill.client import FileProgress
from maskmill.push.outcome import Pushed, in_rounds
from maskmill.push.project import Project, ProjectChoice, find_project
from maskmill.push.server import (
    Answer,
    Credentials,
    PushError,
    RefusedError,
    Server,
    Token,
    in_requests,
    plain_token,
)

_NAME = "Label Studio"
_CONFIG = "label-config.xml"
_PAGE = 500
_TASKS_AT_ONCE = 100
_BYTES_AT_ONCE = 8 << 20
_TOO_LARGE = 413


def push_label_studio(
    folder: Path,
    *,
    url: str,
    token: str,
    project: ProjectChoice,
    on_progress: FileProgress | None = None,
) -> Pushed:
    """Send the tasks of the export in `folder` that the project does not have yet. One that was
    cut short is called again. Raise `PushError`."""
    if not (folder / _CONFIG).is_file():
        raise PushError(f"{folder} holds no export for Label Studio: there is no {_CONFIG}")
    is_personal = token.count(".") == 2
    credentials: Credentials = _PersonalToken(token) if is_personal else Token("Token", token)
    with Server(url, credentials, name=_NAME) as server:
        push = _Push(server, folder, project, on_progress or (lambda _done, _total: None))
        return in_rounds(push.round)


class _Access(Answer):
    access: str


class _PersonalToken:
    """A JWT that is sent for others, which are good for some minutes."""

    def __init__(self, token: str) -> None:
        self._token = plain_token(token)
        self._access: str | None = None

    def header(self, server: Server) -> str:
        if self._access is None:
            content = server.unsigned("/api/token/refresh", {"refresh": self._token})
            self._access = plain_token(server.read(_Access, content).access)
        return f"Bearer {self._access}"

    def renew(self) -> bool:
        self._access = None
        return True

    def hidden(self, text: str) -> str:
        for secret in filter(None, (self._token, self._access)):
            text = text.replace(secret, "***")
        return text


class _Project(Project):
    name: str | None = Field(alias="title")
    label_config: str | None = None


class _TaskThere(Answer):
    data: dict[str, Any]


class _TasksThere(Answer):
    tasks: list[_TaskThere]
    total: int


@dataclass(frozen=True, slots=True)
class _Task:
    id: str
    json: bytes


def _size(task: _Task) -> int:
    return len(task.json)


class _Push:
    def __init__(
        self, server: Server, folder: Path, choice: ProjectChoice, report: FileProgress
    ) -> None:
        self._server = server
        self._folder = folder
        self._choice = choice
        self._report = report
        self._there_before: int | None = None

    def round(self) -> Pushed:
        project = self._project()
        total = sum(1 for _ in _tasks(self._folder))
        done = set(self._tasks_there(project))
        before = self._there_before = (
            len(done) if self._there_before is None else self._there_before
        )
        self._report(len(done), total)
        missing = (task for task in _tasks(self._folder) if task.id not in done)
        for batch in in_requests(missing, _size, most=_BYTES_AT_ONCE, most_items=_TASKS_AT_ONCE):
            self._send(project, batch)
            done.update(task.id for task in batch)
            self._report(len(done), total)
        url = f"{self._server.url}/projects/{project.id}"
        return Pushed(project.id, sent=len(done) - before, there=before, url=url)

    def _project(self) -> _Project:
        config = (self._folder / _CONFIG).read_text(encoding="utf-8")
        found = find_project(
            self._server,
            self._choice,
            _Project,
            path=f"/api/projects/{self._choice.id}/",
            among=self._server.pages(_Project, "/api/projects/", page_size=_PAGE),
        )
        if found is None:
            new = {"title": self._choice.name, "label_config": config}
            return self._server.post(_Project, "/api/projects/", new)
        _check_labels(found, config)
        return found

    def _tasks_there(self, project: _Project) -> Iterator[str]:
        """The ids of this export's tasks that the project has."""
        first = next(_tasks(self._folder), None)
        export = "" if first is None else first.id.rpartition("/")[2]
        seen = 0
        for page in self._server.page_numbers():
            answer = self._server.get(
                _TasksThere, "/api/tasks/", project=project.id, page=page, page_size=_PAGE
            )
            ids = (str(task.data.get(TASK_ID, "")) for task in answer.tasks)
            yield from (task_id for task_id in ids if task_id.rpartition("/")[2] == export)
            seen += len(answer.tasks)
            if seen >= answer.total:
                return
            if not answer.tasks:
                raise PushError(f"{_NAME} lists {seen:,} of {answer.total:,} tasks: run it again")

    def _send(self, project: _Project, batch: list[_Task]) -> None:
        """In halves where the server, or a proxy before it, finds it too large."""
        body = b"[" + b",".join(task.json for task in batch) + b"]"
        try:
            self._server.send(
                "POST",
                f"/api/projects/{project.id}/import",
                content=body,
                headers={"Content-Type": "application/json"},
            )
        except RefusedError as error:
            if error.status != _TOO_LARGE or len(batch) == 1:
                raise
            half = len(batch) // 2
            self._send(project, batch[:half])
            self._send(project, batch[half:])


def _tasks(folder: Path) -> Iterator[_Task]:
    """Of all files; each has an array with a task a line."""
    for path in sorted(folder.glob("tasks-*.json")):
        with path.open("rb") as file:
            for line in file:
                task = line.strip(b"[], \r\n")
                if task:
                    yield _Task(from_json(task)["data"][TASK_ID], task)


def _check_labels(project: _Project, config: str) -> None:
    """Predictions show only where the project has our tag, with all of our labels."""
    tag, ours = _labels(config)
    there, theirs = _labels(project.label_config or "<View/>")
    missing = ours - theirs
    if tag == there and not missing:
        return
    what = f"labels {', '.join(sorted(missing))} in a" if missing else "a"
    raise PushError(
        f"project {project.id} has no {what} <{tag} name={FROM_NAME!r}>: add what stands in "
        f"{_CONFIG} to its labelling interface, or give --name for a new project"
    )


def _labels(config: str) -> tuple[str, set[str]]:
    """The kind of our tag in a labelling config, "" without one, and the names of its labels."""
    try:
        root = Xml.fromstring(config)  # noqa: S314 (expat limits what entities may grow to)
    except Xml.ParseError as error:
        raise PushError(f"{_NAME} has a labelling interface that is no XML: {error}") from error
    for tag in root.iter():
        if tag.get("name") == FROM_NAME:
            return tag.tag, {str(label.get("value")) for label in tag.iter("Label")}
    return "", set()
