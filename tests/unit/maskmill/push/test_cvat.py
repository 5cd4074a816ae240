from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from domain.exports import ExportFormat
from domain.formats.cvat import write_cvat
from maskmill.push import ProjectChoice, Pushed, PushError, cvat, cvat_file, push_cvat
from tests.unit.domain.hard_masks import (
    FolderSink,
    Rows,
    at_the_edges,
    hole,
    image_rows,
    one_pixel,
    source_of,
    two_parts,
)
from tests.unit.maskmill.push.cvat_server import HEIGHT, WIDTH, Cvat
from tests.unit.maskmill.push.http_server import serving

MASKS = [hole(), two_parts(), one_pixel(), at_the_edges()]
NAMES = [f"{number}.png" for number in range(10)]


@pytest.fixture
def server() -> Iterator[Cvat]:
    opened = Cvat()
    with serving(opened):
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return exported(tmp_path / "export", named(NAMES))


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cvat_file, "IMAGES_PER_TASK", 4)
    monkeypatch.setattr(cvat, "_NUMBERS_AT_ONCE", 300)
    monkeypatch.setattr(cvat, "_PAGE", 2)
    monkeypatch.setattr(cvat, "_POLL_SECONDS", 0.001)


def named(names: list[str]) -> Rows:
    return [image_rows(number, name, *MASKS) for number, name in enumerate(names)]


def exported(folder: Path, rows: Rows, **options: Any) -> Path:
    asked = {"min_score": 0.1, "image_prefix": "https://example.com/i/", **options}
    write_cvat(source_of(rows, ExportFormat.CVAT, **asked), FolderSink(folder))
    return folder


def push(server: Cvat, folder: Path, *, token: str = 40 * "a", **choice: Any) -> Pushed:
    project = ProjectChoice(**(choice or {"name": "scenes"}))
    return push_cvat(folder, url=server.url, token=token, project=project)


def drawn(points: list[int]) -> np.ndarray:
    *runs, left, top, right, bottom = points
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    values = np.repeat(np.arange(len(runs)) % 2, runs)
    mask[top : bottom + 1, left : right + 1] = values.reshape(bottom - top + 1, -1)
    return mask


def images(server: Cvat) -> list[str]:
    return [name for task in sorted(server.tasks) for name in server.frames[task]]


def check_complete(server: Cvat) -> None:
    """Every image once, with all of its masks, in finished tasks."""
    assert images(server) == NAMES
    assert not any("unfinished" in task["name"] for task in server.tasks.values())
    for task in server.tasks:
        for frame in range(len(server.frames[task])):
            shapes = [shape for shape in server.shapes[task] if shape["frame"] == frame]
            for shape, mask in zip(shapes, MASKS, strict=True):
                assert np.array_equal(drawn(shape["points"]), mask)


def test_a_new_project_gets_every_image_once_with_its_masks(server: Cvat, folder: Path) -> None:
    pushed = push(server, folder)
    assert pushed == Pushed(1, sent=10, there=0, url=f"{server.url}/projects/1")
    check_complete(server)
    assert [task["name"].split()[:2] for task in server.tasks.values()] == [
        ["job_1", "0-3"],
        ["job_1", "4-7"],
        ["job_1", "8-9"],
    ]


def test_masks_have_their_labels_and_scores(server: Cvat, folder: Path) -> None:
    push(server, folder)
    shapes = server.shapes[min(server.shapes)][:4]
    labels = [server.labels[shape["label_id"]]["name"] for shape in shapes]
    assert labels == ["red circle", "star", "red circle", "star"]
    assert [a["value"] for s in shapes for a in s["attributes"]] == ["0.9", "0.8", "0.7", "0.6"]


def test_images_are_named_by_their_addresses_in_order(server: Cvat, folder: Path) -> None:
    push(server, folder)
    data = server.sent("POST", "/data")[0]
    assert data["remote_files"] == [f"https://example.com/i/{name}" for name in NAMES[:4]]
    assert data["sorting_method"] == "predefined"


def test_pushing_again_changes_nothing_that_people_have_done(server: Cvat, folder: Path) -> None:
    push(server, folder)
    first = min(server.tasks)
    del server.shapes[first][0]
    edited = list(server.shapes[first])
    again = push(server, folder)
    assert (again.sent, again.there) == (0, 10)
    assert server.shapes[first] == edited
    assert images(server) == NAMES


@pytest.mark.parametrize(
    "cut",
    [
        ("POST", "/api/tasks$"),
        ("POST", "/data"),
        ("GET", "/api/requests"),
        ("GET", "/data/meta"),
        ("PUT", "/annotations"),
        ("PATCH", "/annotations"),
        ("PATCH", r"/api/tasks/\d+$"),
    ],
)
def test_a_push_that_was_cut_anywhere_goes_on(
    server: Cvat, folder: Path, cut: tuple[str, str]
) -> None:
    server.refused = [(*cut, 500)]
    with pytest.raises(PushError, match="answers 500"):
        push(server, folder)
    push(server, folder)
    check_complete(server)


@pytest.mark.parametrize(
    "lost",
    [
        ("POST", "/api/projects$"),
        ("POST", "/api/tasks$"),
        ("POST", "/data"),
        ("PUT", "/annotations"),
        ("PATCH", "/annotations"),
        ("PATCH", r"/api/tasks/\d+$"),
    ],
)
def test_an_answer_that_is_lost_doubles_nothing(
    server: Cvat, folder: Path, lost: tuple[str, str]
) -> None:
    server.lost = [lost]
    assert push(server, folder).sent == 10
    check_complete(server)
    assert len(server.projects) == 1


def test_images_that_cannot_be_fetched_are_an_error_that_says_why(
    server: Cvat, folder: Path
) -> None:
    server.gone = "5.png"
    with pytest.raises(PushError, match=r"images of job_1 4-7 \S+: Exception: Failed to download"):
        push(server, folder)
    server.gone = "nowhere"
    assert push(server, folder).there == 4
    check_complete(server)


def test_images_of_one_file_name_go_to_tasks_of_their_own(server: Cvat, tmp_path: Path) -> None:
    rows = named(["a/1.png", "a/2.png", "b/1.png", "b/2.png"])
    push(server, exported(tmp_path / "export", rows))
    assert list(server.frames.values()) == [["1.png", "2.png"], ["1.png", "2.png"]]


def test_names_are_found_as_cvat_reads_them_from_addresses(server: Cvat, tmp_path: Path) -> None:
    addresses = ["https://x/a%20b.png?size=1", "https://x/é c.png#1", "https://x/d.png;v=2"]
    push(server, exported(tmp_path / "export", named(addresses), image_prefix=""))
    assert images(server) == ["a b.png", "é c.png", "d.png"]
    assert server.sent("POST", "/data")[0]["remote_files"] == addresses


def test_a_name_behind_the_prefix_is_the_file_of_that_name(server: Cvat, tmp_path: Path) -> None:
    names = ["é #1.png", "50%.png", "a?b.png", "c;d.png", "a%20b.png"]
    push(server, exported(tmp_path / "export", named([f"week #2/{name}" for name in names])))
    assert images(server) == names
    first, *_ = server.sent("POST", "/data")[0]["remote_files"]
    assert first == "https://example.com/i/week%20%232/%C3%A9%20%231.png"


def test_images_without_an_address_are_an_error(server: Cvat, tmp_path: Path) -> None:
    folder = exported(tmp_path / "export", named(NAMES), image_prefix="")
    with pytest.raises(PushError, match="no web address: give --image-prefix"):
        push(server, folder)
    assert not server.tasks


def test_a_wrong_token_is_an_error_that_names_the_variable(server: Cvat, folder: Path) -> None:
    with pytest.raises(PushError, match=r"CVAT at .* does not accept .*MASKMILL_PUSH_TOKEN"):
        push(server, folder, token=40 * "b")


def test_access_tokens_are_sent_as_such(server: Cvat, folder: Path) -> None:
    server.token = "Bearer abc.def"
    push(server, folder, token="abc.def")
    check_complete(server)


def test_a_project_that_is_not_there_is_an_error(server: Cvat, folder: Path) -> None:
    with pytest.raises(PushError, match="has no project 7"):
        push(server, folder, id=7)


def test_a_project_needs_all_labels(server: Cvat, folder: Path) -> None:
    server.make_project(name="scenes", labels=[{"name": "star", "attributes": []}])
    with pytest.raises(PushError, match="project 1 has no labels red circle"):
        push(server, folder)


def test_labels_may_have_letters_that_xml_has_not(server: Cvat, tmp_path: Path) -> None:
    push(server, exported(tmp_path / "export", named(NAMES), classes={"star": "st\x01ar"}))
    check_complete(server)


def test_labels_need_no_attribute_for_the_score(server: Cvat, folder: Path) -> None:
    labels: list[dict[str, Any]] = [
        {"name": name, "attributes": []} for name in ("moon", "star", "red circle")
    ]
    server.make_project(name="scenes", labels=labels)
    push(server, folder, id=1)
    check_complete(server)


def test_a_project_of_an_organization_is_worked_in_there(server: Cvat, folder: Path) -> None:
    push(server, folder)
    server.projects[1]["organization"] = 4
    server.queries.clear()
    push(server, folder, id=1)
    assert {query.get("org_id") for query in server.queries[1:]} == {"4"}


def test_a_folder_with_something_else_in_it_is_an_error(server: Cvat, tmp_path: Path) -> None:
    with pytest.raises(PushError, match="no export for CVAT"):
        push(server, tmp_path)
