"""GET /v1/jobs/{job_id}/images: pages by number and by what was found."""

from collections.abc import Iterator
from typing import Any

import pytest

from api.images import listing, ranking
from domain.annotations import ImageOutcome, Instance, failure
from domain.errors import ImageErrorCode
from storage.object_store import open_store
from storage.shards import claim_shard
from tests.integration.api.conftest import Api
from tests.integration.api.labelled import commit, finish, found, labelled, plan

TRUNCATED = failure(ImageErrorCode.TRUNCATED, "the file ends early")
# By number: 0 two, 1 failed, 2 none, 3 one, 4 three, 5 failed, 6 one
OUTCOMES: list[list[ImageOutcome]] = [
    [labelled(found(0.9), found(0.2)), TRUNCATED, labelled()],
    [labelled(found(0.7)), labelled(found(0.4), found(0.5), found(0.95, prompt_index=1))],
    [failure(ImageErrorCode.NOT_FOUND, "gone"), labelled(found(0.05, category="star"))],
]


@pytest.fixture
def job_id(api: Api) -> str:
    job_id = str(api.create_job()["id"])
    lease = plan(api, job_id, images=9)
    start = 0
    for outcomes in OUTCOMES:
        commit(api, lease, outcomes, start=start)
        start += len(outcomes)
    return job_id


def images(api: Api, job_id: str, **params: Any) -> Any:
    answer = api.as_alice("GET", f"/v1/jobs/{job_id}/images", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def pages(api: Api, job_id: str, **params: Any) -> Iterator[Any]:
    cursor: dict[str, str] = {}
    while True:
        page = images(api, job_id, **params, **cursor)
        yield page
        if page["next_cursor"] is None:
            return
        cursor = {"cursor": page["next_cursor"]}


def numbers(page: Any) -> list[int]:
    return [image["image_index"] for image in page["data"]]


def test_an_image_says_what_became_of_it_while_the_job_runs(api: Api, job_id: str) -> None:
    page = images(api, job_id)
    assert numbers(page) == [0, 1, 2, 3, 4, 5, 6]
    assert page["sorted_of"] is None
    assert page["categories"] == [{"id": 1, "name": "red circle"}, {"id": 2, "name": "star"}]
    first, failed, empty = page["data"][:3]
    assert first == {
        "image_index": 0,
        "image": "image-0.png",
        "custom_id": "id-0",
        "status": "succeeded",
        "error": None,
        "width": 6,
        "height": 4,
        "orientation": 1,
        "instances": 2,
        "lowest_score": 0.2,
        "highest_score": 0.9,
        "milliseconds": 0.0,
        "saturated_prompts": [],
        "annotations": None,
    }
    assert failed["status"] == "failed"
    assert failed["error"] == {"code": "truncated", "message": "the file ends early"}
    assert (empty["instances"], empty["lowest_score"], empty["highest_score"]) == (0, None, None)


def test_annotations_come_with_all_that_the_floor_let_through(api: Api, job_id: str) -> None:
    page = images(api, job_id, annotations=True)
    assert [len(image["annotations"]) for image in page["data"]] == [2, 0, 0, 1, 3, 0, 1]
    assert page["data"][4]["annotations"][2] == {
        "instance": 2,
        "prompt_index": 1,
        "category_id": 1,
        "score": 0.95,
        "threshold": None,
        "bbox": [1.0, 0.0, 2.0, 3.0],
        "area": 6,
        "segmentation": {"size": [4, 6], "counts": "4310<"},
    }
    assert page["data"][6]["annotations"][0]["category_id"] == 2
    plain = images(api, job_id)
    without = [{**image, "annotations": None} for image in page["data"]]
    assert without == plain["data"]


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7, 50])
@pytest.mark.parametrize("annotations", [True, False])
def test_pages_of_any_size_have_every_image_once(
    api: Api, job_id: str, limit: int, annotations: bool
) -> None:
    found = list(pages(api, job_id, limit=limit, annotations=annotations))
    assert [number for page in found for number in numbers(page)] == [0, 1, 2, 3, 4, 5, 6]
    assert all(page["data"] for page in found)


SORTED = {
    "most": [4, 0, 3, 6, 2, 1, 5],
    "fewest": [2, 3, 6, 0, 4, 1, 5],
    "lowest": [6, 0, 4, 3, 2, 1, 5],
    "highest": [4, 0, 3, 6, 2, 1, 5],
    "failed": [1, 5, 0, 2, 3, 4, 6],
}


@pytest.mark.parametrize("sort", SORTED)
@pytest.mark.parametrize("limit", [1, 3, 7, 50])
def test_images_are_sorted_by_what_was_found_in_pages_of_any_size(
    api: Api, job_id: str, sort: str, limit: int
) -> None:
    found = list(pages(api, job_id, sort=sort, limit=limit, annotations=True))
    assert [number for page in found for number in numbers(page)] == SORTED[sort]
    assert {page["sorted_of"] for page in found} == {7}
    by_number = {
        image["image_index"]: image for image in images(api, job_id, annotations=True)["data"]
    }
    assert all(image == by_number[image["image_index"]] for page in found for image in page["data"])


@pytest.mark.parametrize("sort", ["index", *SORTED])
@pytest.mark.parametrize("limit", [2, 50])
def test_a_page_begins_at_any_place_of_its_order(
    api: Api, job_id: str, sort: str, limit: int
) -> None:
    order = numbers(images(api, job_id, sort=sort))
    for first in range(9):
        page = images(api, job_id, sort=sort, first=first, limit=limit)
        assert numbers(page) == order[first : first + limit]
        if page["next_cursor"] is not None:
            following = images(api, job_id, sort=sort, limit=limit, cursor=page["next_cursor"])
            assert numbers(following) == order[first + limit : first + 2 * limit]


def test_a_sorted_list_grows_with_the_job(api: Api, job_id: str) -> None:
    before = images(api, job_id, sort="most")
    with api.database.begin() as connection:
        connection.exec_driver_sql("UPDATE shards SET lease_expires_at = now() - interval '1 s'")
        lease = claim_shard(connection, owner="t", models=["demo-sam3"], lease_seconds=60)
    assert lease is not None
    commit(api, lease, [labelled(*[found(0.5)] * 4)], start=7)
    after = images(api, job_id, sort="most")
    assert (before["sorted_of"], after["sorted_of"]) == (7, 8)
    assert numbers(after) == [7, *numbers(before)]


def test_only_the_first_images_are_sorted_and_the_answer_says_so(
    api: Api, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for first, order in ((3, [0, 2, 1]), (4, [0, 3, 2, 1])):  # the second slice has 3 and 4
        monkeypatch.setattr(ranking, "SORTED_IMAGES", first)
        page = images(api, job_id, sort="most")
        assert (numbers(page), page["sorted_of"]) == (order, first)


def test_parts_are_read_once_and_forgotten_when_there_are_many(
    api: Api, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    usual = ranking._read

    def noting(part: Any, *args: Any, **named: Any) -> Any:
        read.append(part.images_key)
        return usual(part, *args, **named)

    monkeypatch.setattr(ranking, "_read", noting)
    for _ in range(2):
        for sort in SORTED:
            images(api, job_id, sort=sort)
    assert len(read) == 2 * len(OUTCOMES)  # with scores, and without
    monkeypatch.setattr(ranking, "_KEPT_IMAGES", 7)
    for sort in ("most", "lowest", "most"):
        images(api, job_id, sort=sort)
    assert len(read) > 3 * len(OUTCOMES)


def test_a_page_ends_where_masks_would_be_too_many(
    api: Api, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "_ANNOTATION_BYTES", 9)  # two masks have 10
    for sort, expected in {"index": [0, 1, 2, 3, 4, 5, 6], **SORTED}.items():
        found = list(pages(api, job_id, sort=sort, annotations=True))
        assert [number for page in found for number in numbers(page)] == expected, sort
        assert len(found) > 2
        assert all(
            len(image["annotations"]) == image["instances"]
            for page in found
            for image in page["data"]
        )


def test_few_parts_are_read_for_a_page(
    api: Api, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "_SLICES_PER_REQUEST", 1)
    found = list(pages(api, job_id))
    assert [numbers(page) for page in found] == [[0, 1, 2], [3, 4], [5, 6], []]


def test_a_job_without_results_has_an_empty_list(api: Api) -> None:
    job_id = api.create_job()["id"]
    for sort in ("index", *SORTED):
        page = images(api, job_id, sort=sort)
        assert (page["data"], page["next_cursor"]) == ([], None)


def test_a_finished_job_has_the_same_list(api: Api) -> None:
    job_id = api.create_job()["id"]
    lease = plan(api, job_id, images=3)
    commit(api, lease, OUTCOMES[0])
    running = images(api, job_id, annotations=True)
    finish(api, lease)
    assert images(api, job_id, annotations=True) == running


@pytest.mark.parametrize(
    "params",
    [
        {"sort": "size"},
        {"limit": 0},
        {"limit": 501},
        {"annotations": "perhaps"},
        {"cursor": "x"},
        {"sort": "most", "cursor": "WzNd"},  # [3]
        {"cursor": "WzEuNSwgM10"},  # [1.5, 3]
    ],
)
def test_what_makes_no_sense_is_refused(api: Api, job_id: str, params: Any) -> None:
    answer = api.as_alice("GET", f"/v1/jobs/{job_id}/images", params=params)
    assert answer.status_code == 422


def test_images_are_their_owners(api: Api, job_id: str) -> None:
    for path in ("images", "images/0/picture", "images?sort=most"):
        answer = api.client.get(f"/v1/jobs/{job_id}/{path}", headers=api.bob)
        assert answer.status_code == 404


def test_a_part_that_was_changed_is_not_shown(api: Api, job_id: str) -> None:
    part = api.as_alice("GET", f"/v1/jobs/{job_id}/results").json()["data"][0]["images"]
    root = f"{api.settings.object_store}/jobs/{job_id}/results"
    open_store(root, settings=api.settings).put(part["key"], b"x" * part["bytes"])
    for sort in ("index", "most"):
        answer = api.as_alice("GET", f"/v1/jobs/{job_id}/images", params={"sort": sort})
        assert (answer.status_code, answer.json()["code"]) == (409, "result_damaged")


def test_a_class_of_an_items_own_prompt_is_among_the_categories(api: Api) -> None:
    own = Instance(1, "dog", 0.8, (0.0, 0.0, 1.0, 1.0), 1, found(0.8).mask)
    job_id = api.create_job()["id"]
    lease = plan(api, job_id, images=1)
    commit(api, lease, [labelled(own)])
    with api.database.begin() as connection:
        connection.exec_driver_sql(
            """UPDATE slices SET parts = parts || '{"item_categories": ["dog"]}'"""
        )
    page = images(api, job_id, annotations=True)
    assert page["categories"][2] == {"id": 3, "name": "dog"}
    assert page["data"][0]["annotations"][0]["category_id"] == 3
