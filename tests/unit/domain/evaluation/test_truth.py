import copy
import itertools
import json
import re
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from domain.evaluation.truth import BadTruth, Truth, read_truth
from domain.rle import compress
from tests.unit.domain.any_masks import masks
from tests.unit.domain.evaluation.cases import read, rle
from tests.unit.domain.hard_masks import pixels

CLASSES = ["star", "Hard Hat", "hat", "HAT"]
TRIANGLE = [2.0, 3.0, 17.5, 3.0, 9.0, 15.0]


def document(**annotation: Any) -> dict[str, Any]:
    """An image of 20 x 30 with an annotation, a triangle unless told else."""
    return {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 30, "height": 20}],
        "annotations": [
            {"id": 5, "image_id": 7, "category_id": 1, "segmentation": [TRIANGLE]} | annotation
        ],
        "categories": [{"id": 1, "name": "star"}],
    }


def uncompressed(mask: np.ndarray) -> list[int]:
    """Plainly, column by column."""
    counts, last = [0], 0
    for value in mask.T.ravel().tolist():
        if value != last:
            counts.append(0)
        counts[-1] += 1
        last = value
    return counts


def only_mask(truth: Truth) -> np.ndarray:
    ((instance,),) = [image.instances for image in truth.images]
    return pixels(instance.mask)


def test_polygons_are_drawn_as_pycocotools_draws_them() -> None:
    both = [TRIANGLE, [20.0, 10.0, 29.0, 10.0, 35.0, 25.0, 20.0, 19.0]]  # leaves the image
    drawn = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(both, 20, 30)))
    truth = read(document(segmentation=both), CLASSES)
    assert np.array_equal(only_mask(truth), drawn)
    assert truth.images[0].instances[0].area == drawn.sum()


@given(masks(size=(7, 9)), st.data())
def test_run_lengths_give_the_mask_back(mask: np.ndarray, data: st.DataObject) -> None:
    lengths = uncompressed(mask)
    for _ in range(data.draw(st.integers(0, 3))):  # runs of nothing, which no writer should write
        place = data.draw(st.integers(0, len(lengths)))
        lengths[place:place] = [0, 0]
    counts: list[Any] = [lengths, compress(np.array(lengths)).decode(), rle(mask).counts.decode()]
    entry = document(segmentation={"size": [7, 9], "counts": data.draw(st.sampled_from(counts))})
    entry["images"][0] |= {"width": 9, "height": 7}
    truth = read(entry, CLASSES)
    assert np.array_equal(only_mask(truth), mask)
    assert truth.images[0].instances[0].mask == rle(mask)
    assert truth.images[0].instances[0].area == mask.sum()


def test_an_annotation_says_its_area_and_whether_it_is_a_crowd() -> None:
    (image,) = read(document(area=12.5, iscrowd=1), CLASSES).images
    assert (image.name, image.width, image.height) == ("a.jpg", 30, 20)
    assert [(one.class_id, one.area, one.crowd) for one in image.instances] == [(0, 12.5, True)]


def test_an_image_without_annotations_is_part_of_the_truth() -> None:
    (image,) = read(document() | {"annotations": []}, CLASSES).images
    assert image.instances == ()


def test_annotations_stay_in_their_order() -> None:
    entry = document()
    entry["annotations"] = [entry["annotations"][0] | {"area": n, "id": None} for n in range(4)]
    (image,) = read(entry, CLASSES).images
    assert [one.area for one in image.instances] == [0, 1, 2, 3]


def named(*names: str, **options: Any) -> Truth:
    """A category for each name, with an annotation."""
    entry = document()
    annotation = entry["annotations"][0]
    entry["categories"] = [{"id": n, "name": name} for n, name in enumerate(names)]
    entry["annotations"] = [annotation | {"category_id": n} for n in range(len(names))]
    return read(entry, CLASSES, **options)


def test_categories_are_found_by_name_and_without_regard_to_capitals() -> None:
    truth = named("STAR", "star", "hard hat", "hat", "HAT", "Hat", "boot")
    assert truth.matched == {
        "STAR": "star", "star": "star", "hard hat": "Hard Hat", "hat": "hat", "HAT": "HAT",
    }  # fmt: skip
    assert truth.unmatched == {"Hat": 1, "boot": 1}  # "Hat" may be either of two
    assert [one.class_id for one in truth.images[0].instances] == [0, 0, 1, 2, 3]


def test_a_mapping_goes_before_names() -> None:
    truth = named("star", "hat", "boot", mapping={"boot": "star", "star": None})
    assert truth.matched == {"hat": "hat", "boot": "star"}
    assert (truth.left_out, truth.unmatched) == (("star",), {})
    assert [one.class_id for one in truth.images[0].instances] == [2, 0]


def test_categories_of_one_name_are_one() -> None:
    truth = named("star", "star", "boot", "boot")
    assert truth.matched == {"star": "star"}
    assert truth.unmatched == {"boot": 2}


def test_masks_of_categories_that_fit_no_class_are_not_looked_at() -> None:
    entry = document(segmentation="?")
    entry["categories"][0]["name"] = "boot"
    assert read(entry, CLASSES).unmatched == {"boot": 1}


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ({"segmentation": []}, "annotation 5 has no mask: masks are compared"),
        ({"segmentation": None, "bbox": [1, 2, 3, 4]}, "boxes alone are not enough"),
        ({"segmentation": [[1, 2, 3, 4]]}, "annotation 5 has a polygon of less than 3 points"),
        ({"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}, "not a list of x, y, x, y"),
        ({"segmentation": [[1, 2, 3, 4, 5, "6"]]}, "not a list of x, y, x, y"),
        ({"segmentation": [TRIANGLE, [[1, 2], [3, 4], [5, 6]]]}, "not a list of x, y, x, y"),
        ({"segmentation": [[1, 2, 3, 4, 5, 1e9]]}, "a polygon far outside of its image"),
        ({"segmentation": [[0, 0, 29, 19] * 100_000]}, "an outline of more than 4,194,304 pixels"),
        ({"segmentation": "mask.png"}, "neither polygons nor run lengths"),
        ({"segmentation": {"size": [30, 20], "counts": [600]}}, "size [30, 20], but its image is"),
        ({"segmentation": {"size": [20, 30], "counts": [1, 2]}}, "do not fill the 600 pixels"),
        ({"segmentation": {"size": [20, 30], "counts": [601, -1]}}, "do not fill the 600 pixels"),
        ({"segmentation": {"size": [20, 30], "counts": []}}, "neither text nor a list"),
        ({"segmentation": {"size": [20, 30], "counts": [0.5]}}, "neither text nor a list"),
        ({"segmentation": {"size": [20, 30], "counts": [2**70]}}, "neither text nor a list"),
        ({"segmentation": {"size": [20, 30]}}, "neither text nor a list"),
        ({"segmentation": {"size": [20, 30], "counts": "é"}}, "cannot be read"),
        ({"segmentation": {"size": [20, 30], "counts": "\ud800"}}, "cannot be read"),
        ({"segmentation": {"size": [20, 30], "counts": "oooooooooo0"}}, "cannot be read"),
        ({"segmentation": {"size": [20, 30], "counts": "o"}}, "cannot be read"),
        ({"segmentation": {"size": [20, 30], "counts": ""}}, "cannot be read"),
        ({"segmentation": {"size": [20, 30], "counts": "1"}}, "do not fill the 600 pixels"),
        ({"image_id": 8}, "annotation 5 is of image 8, which is not listed"),
        ({"id": None, "image_id": "x"}, "an annotation of image x is of image 'x', which is not"),
        ({"category_id": 2}, "annotation 5 is of category 2, which is not listed"),
        ({"category_id": None}, "not COCO instance annotations: annotations.0.category_id"),
        ({"area": -1}, "not COCO instance annotations: annotations.0.area"),
        ({"iscrowd": 7}, "not COCO instance annotations: annotations.0.iscrowd"),
    ],
)
def test_a_bad_annotation_is_named(annotation: dict[str, Any], message: str) -> None:
    with pytest.raises(BadTruth, match=re.escape(message)):
        read(document(**annotation), CLASSES)


def test_an_image_with_too_many_annotations_is_refused() -> None:
    """They would keep a planner busy for hours."""
    entry = document()
    entry["annotations"] *= 5001
    with pytest.raises(BadTruth, match=r"image 'a\.jpg' has more than 5,000 annotations"):
        read(entry, CLASSES)


@pytest.mark.parametrize(
    ("part", "entries", "message"),
    [
        ("images", [{"id": 7, "file_name": "a.jpg", "width": 30}], "images.0.height"),
        ("images", [{"id": 7, "file_name": "a.jpg", "width": 0, "height": 1}], "images.0.width"),
        ("images", None, "not COCO instance annotations: images"),
        ("categories", [{"id": 1}], "categories.0.name"),
        ("categories", [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}], "two categories have"),
        (
            "images",
            [{"id": n, "file_name": "a.jpg", "width": 30, "height": 20} for n in (7, 8)],
            "image 'a.jpg' is listed twice",
        ),
        (
            "images",
            [{"id": 7, "file_name": f"{n}.jpg", "width": 30, "height": 20} for n in range(2)],
            "two images have the id 7",
        ),
        (
            "images",
            [{"id": 7, "file_name": "a.jpg", "width": 60_000, "height": 60_000}],
            "image 'a.jpg' has more than 2,147,483,648 pixels",
        ),
    ],
)
def test_a_bad_document_is_told(part: str, entries: Any, message: str) -> None:
    with pytest.raises(BadTruth, match=re.escape(message)):
        read(document() | {part: entries}, CLASSES)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b"null", b'{"images": []}', b"\xff\xfe", b"[" * 100_000),
        b'{"images": ' + b"[" * 100_000,
        b'{"images": [' + b"9" * 5000 + b"]}",
        b'{"images": ["' + b"a" * 40_000_000,
        json.dumps(document()).encode() + b"{",
        json.dumps(document()).encode() + b"\xc3",
        json.dumps(document()).encode()[:-1] + b",}",
    ],
)
def test_what_is_not_coco_is_refused(content: bytes) -> None:
    with pytest.raises(BadTruth, match="not COCO instance annotations: "):
        read_truth(BytesIO(content), classes=CLASSES)


def test_the_order_of_lists_and_what_else_is_there_do_not_matter() -> None:
    entry = document()
    others = {"info": {"images": [1]}, "licenses": [[], {}, 5, "]"], "version": 12, "none": None}
    expected = read(entry, CLASSES)
    for names in itertools.permutations(entry):
        assert read({**{name: entry[name] for name in names}, **others}, CLASSES) == expected
        assert read({**others, **{name: entry[name] for name in names}}, CLASSES) == expected


def test_a_large_truth_is_read_by_the_megabyte_and_says_that_it_goes_on() -> None:
    """Of three megabytes, twice; no entry is lost where a megabyte ends."""
    entry = document()
    name, count = "ü" * 500, 3000
    size = {"width": 30, "height": 20}
    entry["images"] = [{"id": n, "file_name": f"{n} {name}", **size} for n in range(count)]
    annotation = entry["annotations"][0]
    entry["annotations"] = [annotation | {"image_id": n} for n in range(count)]
    content = json.dumps(entry, ensure_ascii=False).encode()
    noted: list[None] = []
    truth = read_truth(BytesIO(content), classes=CLASSES, note=lambda: noted.append(None))
    assert len(noted) >= 2 * (len(content) // 2**20)
    assert [image.name for image in truth.images] == [f"{n} {name}" for n in range(count)]
    assert all(len(image.instances) == 1 for image in truth.images)


def test_results_of_pycocotools_are_no_truth() -> None:
    with pytest.raises(BadTruth, match="not COCO instance annotations"):
        read([{"image_id": 1, "category_id": 1, "score": 0.5, "segmentation": {}}], CLASSES)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"boot": "star"}, "category 'boot' is none of the truth's: 'star'"),
        ({"star": "boot"}, "class 'boot' is none of the job's: 'star', 'Hard Hat', 'hat', 'HAT'"),
    ],
)
def test_a_mapping_of_what_is_not_there_is_refused(mapping: dict[str, str], message: str) -> None:
    with pytest.raises(BadTruth, match=re.escape(message)):
        read(document(), CLASSES, mapping=mapping)


@given(st.data())
def test_a_damaged_document_is_refused_or_read_but_breaks_nothing(data: st.DataObject) -> None:
    mask = np.eye(20, 30, dtype=np.uint8)
    whole = document(segmentation={"size": [20, 30], "counts": rle(mask).counts.decode()})
    damaged = copy.deepcopy(whole)
    annotation, segmentation = damaged["annotations"][0], damaged["annotations"][0]["segmentation"]
    junk = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=6,
    )
    owner = data.draw(st.sampled_from([damaged, annotation, segmentation, damaged["images"][0]]))
    owner[data.draw(st.sampled_from(sorted(owner)))] = data.draw(junk)
    try:
        truth = read_truth(BytesIO(json.dumps(damaged).encode()), classes=CLASSES)
    except BadTruth:
        return
    for image in truth.images:
        for one in image.instances:
            assert pixels(one.mask).shape == (image.height, image.width)


@given(st.text(alphabet=[chr(code) for code in range(48, 112)], max_size=20))
def test_any_compressed_run_lengths_are_refused_or_a_mask_of_the_image(counts: str) -> None:
    entry = document(segmentation={"size": [2, 3], "counts": counts})
    entry["images"][0] |= {"width": 3, "height": 2}
    try:
        truth = read(entry, CLASSES)
    except BadTruth:
        return
    assert only_mask(truth).shape == (2, 3)
