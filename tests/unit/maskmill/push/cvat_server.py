"""As much of CVAT's REST API as a push uses (docs.cvat.ai/docs/api_sdk/api; cvat/apps/engine),
which refuses what CVAT refuses."""

from collections.abc import Mapping
from itertools import count
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlparse
from urllib.request import url2pathname

from tests.unit.maskmill.push.http_server import Json, JsonServer, Refusal, page_of

WIDTH, HEIGHT = 60, 40  # of all images
_SORTINGS = ("lexicographical", "natural", "predefined", "random")


class Cvat(JsonServer):
    """Requests finish when they are asked for a second time. Images with `gone` in their address
    cannot be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.token = "Token " + 40 * "a"
        self.gone = "nowhere"
        self.projects: dict[int, Json] = {}
        self.labels: dict[int, Json] = {}
        self.tasks: dict[int, Json] = {}
        self.frames: dict[int, list[str]] = {}
        self.shapes: dict[int, list[Json]] = {}
        self.rq: dict[str, list[Json]] = {}
        self._numbers = count(100)
        self.queries: list[Mapping[str, str]] = []

    def answer(
        self, method: str, path: str, query: Mapping[str, str], body: Any, token: str
    ) -> tuple[int, Any]:
        if token != self.token:
            raise Refusal(401, "Invalid token.")
        self.queries.append(query)
        match method, path.strip("/").split("/")[1:]:
            case "GET", ["projects"]:
                named = [p for p in self.projects.values() if p["name"] == query["name"]]
                return 200, page_of(named, query)
            case "POST", ["projects"]:
                return 201, self.make_project(**body)
            case "GET", ["projects", number]:
                return 200, _found(self.projects, number)
            case "GET", ["labels"]:
                own = [
                    label
                    for label in self.labels.values()
                    if label["project_id"] == int(query["project_id"])
                ]
                return 200, page_of(own, query)
            case "GET", ["requests", request_id]:
                states = self.rq[unquote(request_id)]
                return 200, states.pop(0) if len(states) > 1 else states[0]
            case _, ["tasks", *rest]:
                return self._task(method, rest, query, body)
        raise Refusal(404, "Not found.")

    def make_project(self, *, name: str, labels: list[Json], **more: Any) -> Json:
        number = len(self.projects) + 1
        self.projects[number] = {"id": number, "name": name, "organization": None, **more}
        for label in labels:
            self._make_label(number, label)
        return self.projects[number]

    def _make_label(self, project_id: int, label: Json) -> None:
        number = 10 + len(self.labels)
        attributes = [
            {"id": 10 * number + place, **attribute}
            for place, attribute in enumerate(label["attributes"])
        ]
        for attribute in attributes:
            _need(attribute["input_type"] in ("checkbox", "radio", "number", "text", "select"))
            _need(isinstance(attribute["mutable"], bool) and isinstance(attribute["values"], list))
        self.labels[number] = {
            "id": number,
            "name": label["name"],
            "project_id": project_id,
            "attributes": attributes,
        }

    def _task(
        self, method: str, rest: list[str], query: Mapping[str, str], body: Any
    ) -> tuple[int, Any]:
        if not rest:
            return self._tasks(method, query, body)
        task = _found(self.tasks, rest[0])
        match method, rest[1:]:
            case "DELETE", []:
                del self.tasks[task["id"]]
                return 204, None
            case "PATCH", []:
                task.update(body)
                return 200, task
            case "POST", ["data"]:
                return 202, self._attach(task, body)
            case "GET", ["data", "meta"]:
                return 200, {"frames": [{"name": name} for name in self.frames[task["id"]]]}
            case "PUT", ["annotations"]:
                self.shapes[task["id"]] = self._checked(task, body)
                return 200, body
            case "PATCH", ["annotations"]:
                _need(query.get("action") in ("create", "update", "delete"))
                self.shapes[task["id"]] += self._checked(task, body)
                return 200, body
        raise Refusal(405, "Method not allowed.")

    def _tasks(self, method: str, query: Mapping[str, str], body: Any) -> tuple[int, Any]:
        if method == "GET":
            project = int(query["project_id"])
            own = [task for task in self.tasks.values() if task["project_id"] == project]
            return 200, page_of(own, query)
        _need(len(body["name"]) <= 256)
        _found(self.projects, body["project_id"])
        number = next(self._numbers)
        self.tasks[number] = {"id": number, **body}
        return 201, self.tasks[number]

    def _attach(self, task: Json, body: Json) -> Json:
        if task["id"] in self.frames:
            raise Refusal(400, "Adding more data is not supported")
        _need(0 <= body["image_quality"] <= 100 and body["sorting_method"] in _SORTINGS)
        names = [
            PurePosixPath(url2pathname(urlparse(url).path)).name for url in body["remote_files"]
        ]
        request_id = f"action=create&target=task&id={task['id']}"
        failure = self._failure(names, body["remote_files"])
        last = {"id": request_id, "status": "finished", "message": ""}
        if failure is None:
            self.frames[task["id"]] = names
        else:
            last = {**last, "status": "failed", "message": f"Traceback:\nException: {failure}"}
        started = {"id": request_id, "status": "started", "message": "Images are being fetched"}
        self.rq[request_id] = [started, last]
        return {"rq_id": request_id}

    def _failure(self, names: list[str], urls: list[str]) -> str | None:
        if len(set(names)) < len(names):
            return f"filename collision: {names[-1]}"
        gone = [url for url in urls if self.gone in url or not url.startswith("http")]
        return f"Failed to download {gone[0]}" if gone else None

    def _checked(self, task: Json, body: Json) -> list[Json]:
        _need(set(body) == {"version", "tags", "shapes", "tracks"})
        for shape in body["shapes"]:
            label = self.labels.get(shape["label_id"])
            _need(label is not None and label["project_id"] == task["project_id"])
            assert label is not None
            specs = {attribute["id"] for attribute in label["attributes"]}
            _need({attribute["spec_id"] for attribute in shape["attributes"]} <= specs)
            _need(0 <= shape["frame"] < len(self.frames[task["id"]]))
            _need(shape["type"] == "mask" and shape["source"] in ("auto", "manual", "file"))
            *runs, left, top, right, bottom = shape["points"]
            _need(0 <= left <= right < WIDTH and 0 <= top <= bottom < HEIGHT)
            _need(sum(runs) == (right - left + 1) * (bottom - top + 1) and min(runs) >= 0)
        return list(body["shapes"])


def _found(known: dict[int, Json], number: str | int) -> Json:
    if int(number) not in known:
        raise Refusal(404, "Not found.")
    return known[int(number)]


def _need(condition: bool) -> None:
    if not condition:
        raise Refusal(400, "Invalid data.")
