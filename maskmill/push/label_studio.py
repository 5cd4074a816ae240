"""Tasks with predictions into a Label Studio project (api.labelstud.io)."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as Xml

import httpx
from pydantic_core import from_json

from domain.formats.label_studio import FROM_NAME, TASK_ID
from maskmill.client import FileProgress
from maskmill.push.outcome import Pushed, in_rounds
from maskmill.push.project import Json, ProjectChoice, find_project
from maskmill.push.server import PushError, RefusedError, Server, TokenAuth, in_requests

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
    auth = _PersonalToken(url, token) if token.count(".") == 2 else TokenAuth("Token", token)
    with Server(url, auth, name=_NAME) as server:
        push = _Push(server, folder, project, on_progress or (lambda _done, _total: None))
        return in_rounds(push.round)


class _PersonalToken(httpx.Auth):
    """A JWT that is sent for others, which are good for some minutes."""

    requires_response_body = True

    def __init__(self, url: str, token: str) -> None:
        self._refresh_url = url.rstrip("/") + "/api/token/refresh"
        self._token = token
        self._access: str | None = None

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if self._access is not None:
            response = yield self._signed(request)
            if response.status_code != httpx.codes.UNAUTHORIZED:
                return
        answer = yield httpx.Request("POST", self._refresh_url, json={"refresh": self._token})
        if answer.is_success:
            self._access = answer.json()["access"]
            yield self._signed(request)

    def _signed(self, request: httpx.Request) -> httpx.Request:
        request.headers["Authorization"] = f"Bearer {self._access}"
        return request


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
        url = f"{self._server.url}/projects/{project['id']}"
        return Pushed(project["id"], sent=len(done) - before, there=before, url=url)

    def _project(self) -> Json:
        config = (self._folder / _CONFIG).read_text(encoding="utf-8")
        found = find_project(
            self._server,
            self._choice,
            path=f"/api/projects/{self._choice.id}/",
            among=self._server.pages("/api/projects/", page_size=_PAGE),
            name_field="title",
        )
        if found is None:
            new = {"title": self._choice.name, "label_config": config}
            project: Json = self._server.send("POST", "/api/projects/", json=new).json()
            return project
        _check_labels(found, config)
        return found

    def _tasks_there(self, project: Json) -> Iterator[str]:
        """The ids of this export's tasks that the project has."""
        first = next(_tasks(self._folder), None)
        export = "" if first is None else first.id.rpartition("/")[2]
        page = seen = 0
        total = 1
        while seen < total:
            page += 1
            answer = self._server.get(
                "/api/tasks/", project=project["id"], page=page, page_size=_PAGE
            )
            ids = (str(task["data"].get(TASK_ID, "")) for task in answer["tasks"])
            yield from (task_id for task_id in ids if task_id.rpartition("/")[2] == export)
            seen, total = seen + len(answer["tasks"]), answer["total"]

    def _send(self, project: Json, batch: list[_Task]) -> None:
        """In halves where the server, or a proxy before it, finds it too large."""
        body = b"[" + b",".join(task.json for task in batch) + b"]"
        try:
            self._server.send(
                "POST",
                f"/api/projects/{project['id']}/import",
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


def _check_labels(project: Json, config: str) -> None:
    """Predictions show only where the project has our tag, with all of our labels."""
    tag, ours = _labels(config)
    there, theirs = _labels(project.get("label_config") or "<View/>")
    missing = ours - theirs
    if tag == there and not missing:
        return
    what = f"labels {', '.join(sorted(missing))} in a" if missing else "a"
    raise PushError(
        f"project {project['id']} has no {what} <{tag} name={FROM_NAME!r}>: add what stands in "
        f"{_CONFIG} to its labelling interface, or give --name for a new project"
    )


def _labels(config: str) -> tuple[str, set[str]]:
    """The kind of our tag in a labelling config, "" without one, and the names of its labels."""
    for tag in Xml.fromstring(config).iter():  # noqa: S314 (expat limits what entities may grow to)
        if tag.get("name") == FROM_NAME:
            return tag.tag, {str(label.get("value")) for label in tag.iter("Label")}
    return "", set()
