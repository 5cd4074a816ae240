"""What a push sends is what the SDK of CVAT would send: its models take each body."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cvat_sdk.api_client import ApiClient, Configuration, apis, models
from cvat_sdk.api_client.api_client import Endpoint

from domain.exports import ExportFormat
from domain.formats.cvat import write_cvat
from maskmill.push import ProjectChoice, push_cvat
from tests.unit.domain.hard_masks import FolderSink, hole, image_rows, one_pixel, source_of
from tests.unit.maskmill.push.cvat_server import Cvat
from tests.unit.maskmill.push.http_server import serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Cvat:
    """One that has been pushed to."""
    folder = tmp_path_factory.mktemp("export")
    rows = [image_rows(n, f"{n}.png", hole(), one_pixel()) for n in range(3)]
    options = {"min_score": 0.1, "image_prefix": "https://example.com/"}
    write_cvat(source_of(rows, ExportFormat.CVAT, **options), FolderSink(folder))
    server = Cvat()
    with serving(server):
        choice = ProjectChoice(name="scenes")
        push_cvat(Path(folder), url=server.url, token=40 * "a", project=choice)
    return server


def read(kind: type, body: Any) -> Any:
    """As the SDK reads an answer: names and types are checked, and none may be unknown."""
    configuration = Configuration(host="http://127.0.0.1:1", discard_unknown_keys=False)
    with ApiClient(configuration) as client:
        return kind._new_from_openapi_data(**body, _configuration=client.configuration)


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("POST", "/api/projects$", models.ProjectWriteRequest),
        ("POST", "/api/tasks$", models.TaskWriteRequest),
        ("POST", "/data/$", models.DataRequest),
        ("PUT", "/annotations/$", models.LabeledDataRequest),
        ("PATCH", r"/api/tasks/\d+$", models.PatchedTaskWriteRequest),
    ],
)
def test_bodies_are_those_of_the_published_schema(
    server: Cvat, method: str, path: str, kind: type
) -> None:
    bodies = server.sent(method, path)
    assert bodies
    for body in bodies:
        model = read(kind, body)
        assert set(model.to_dict()) >= set(body)


def endpoints() -> Iterator[tuple[str, re.Pattern[str], set[str]]]:
    """Method, path, and names of what the query may have, of all that the SDK can call."""
    with ApiClient(Configuration(host="http://127.0.0.1:1")) as client:
        for kind in (apis.LabelsApi, apis.ProjectsApi, apis.RequestsApi, apis.TasksApi):
            for endpoint in vars(kind(client)).values():
                if not isinstance(endpoint, Endpoint):
                    continue
                path = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(endpoint.settings["endpoint_path"]))
                places = endpoint.location_map
                names = {endpoint.attribute_map[name] for name in places if places[name] == "query"}
                yield endpoint.settings["http_method"], re.compile(path), names


def test_every_request_is_one_of_the_published_endpoints(server: Cvat) -> None:
    known = list(endpoints())
    assert len(known) > 30
    for (method, path, _body), query in zip(server.requests, server.queries, strict=True):
        assert any(
            method == published and pattern.fullmatch(path) and set(query) <= names
            for published, pattern, names in known
        ), (method, path, query)


def test_requests_end_as_published() -> None:
    ends = models.RequestStatus.allowed_values[("value",)].values()
    assert set(ends) == {"queued", "started", "failed", "finished"}
