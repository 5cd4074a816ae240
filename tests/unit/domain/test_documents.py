import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from domain.documents import (
    BoxDocument,
    ItemDocument,
    ItemPromptDocument,
    JobPromptDocument,
    ManifestLine,
    NewItem,
)
from domain.geometry import Box, Point
from domain.items import Item
from domain.prompts import ConceptPrompt, MaskPrompt

numbers = st.floats(-1e6, 1e6)
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
phrases = texts.filter(lambda text: bool(text.strip()))
thresholds = st.none() | st.floats(0, 1)
boxes = st.builds(
    lambda x, y, w, h: {"x0": x, "y0": y, "x1": x + w, "y1": y + h},
    numbers, numbers, st.floats(1, 1e3), st.floats(1, 1e3),
)  # fmt: skip
points = st.fixed_dictionaries({"x": numbers, "y": numbers, "positive": st.booleans()})
common = {"class_name": st.none() | texts, "threshold": thresholds}
concepts = st.fixed_dictionaries(
    {"text": phrases, "boxes": st.lists(boxes, max_size=3), **common}
) | st.fixed_dictionaries({"boxes": st.lists(boxes, min_size=1, max_size=3), **common})
one_masks = st.fixed_dictionaries(
    {"box": boxes, "points": st.lists(points, max_size=3), **common}
) | st.fixed_dictionaries({"points": st.lists(points, min_size=1, max_size=3), **common})
item_prompts = concepts | one_masks
items = st.fixed_dictionaries(
    {
        "index": st.integers(0, 2**40),
        "image": texts,
        "uri": texts,
        "custom_id": st.none() | texts,
        "prompts": st.lists(item_prompts, max_size=3),
    }
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(items)
def test_an_item_survives_the_way_through_a_shards_list(content: dict[str, Any]) -> None:
    document = ItemDocument.model_validate(content)
    new = NewItem(
        document.index, document.image, document.uri, document.custom_id, document.prompts
    )
    line = new.to_line()
    assert line.splitlines() == [line]
    again = ItemDocument.model_validate_json(line)
    assert again == document
    assert again.to_item() == document.to_item()


@given(item_prompts)
def test_every_prompt_survives_json_as_python_writes_it(content: dict[str, Any]) -> None:
    document = ItemPromptDocument.model_validate(content)
    stored = json.loads(json.dumps(document.model_dump(mode="json")))
    assert ItemPromptDocument.model_validate(stored).to_prompt() == document.to_prompt()


@pytest.mark.parametrize(
    "model", [BoxDocument, JobPromptDocument, ItemPromptDocument, ManifestLine]
)
@given(data=st.data())
def test_any_content_is_taken_or_refused_with_a_validation_error(
    model: Any, data: st.DataObject
) -> None:
    names = [*sorted(model.model_fields), "x", "y", "width", "height", "image", "uri"]
    content = data.draw(st.dictionaries(st.sampled_from(names), json_values | boxes) | json_values)
    with suppress(ValidationError):
        model.model_validate(content)


@pytest.mark.parametrize(
    "value", [10**400, "abc", None, [], {}], ids=["huge", "text", "null", "list", "object"]
)
def test_a_box_side_that_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError):
        BoxDocument.model_validate({"x": 1, "y": 1, "width": value, "height": 5})
    with pytest.raises(ValidationError):
        BoxDocument.model_validate({"x0": 1, "y0": 1, "x1": value, "y1": 5})


def test_a_box_is_given_by_corners_or_by_sizes() -> None:
    corners = BoxDocument.model_validate({"x0": 1, "y0": 2, "x1": 4, "y1": 6})
    sizes = BoxDocument.model_validate({"x": 1, "y": 2, "width": 3, "height": 4})
    assert corners == sizes
    assert sizes.to_box() == Box(1, 2, 4, 6)
    with pytest.raises(ValidationError):
        BoxDocument.model_validate({"x": 1, "y": 2, "width": 3, "height": 4, "x0": 1})


def test_exemplar_labels_may_be_booleans_or_ones_and_zeros_and_default_to_true() -> None:
    box = {"x": 1, "y": 2, "width": 3, "height": 4}
    for labels, expected in [(None, (True, True)), ([1, 0], (True, False)), ([True, False],) * 2]:
        document = ItemPromptDocument.model_validate({"boxes": [box, box], "box_labels": labels})
        prompt = document.to_prompt()
        assert isinstance(prompt, ConceptPrompt)
        assert prompt.box_labels == tuple(expected)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"text": ""},
        {"text": "cat", "treshold": 0.5},
        {"text": "cat", "threshold": 2},
        {"text": "cat", "threshold": float("nan")},
        {"text": "cat", "box": {"x0": 0, "y0": 0, "x1": 1, "y1": 1}},
        {"text": "cat", "points": [{"x": 1, "y": 1}]},
        {"text": "cat", "box_labels": [True]},
        {"text": "cat", "class_name": ""},
        {"text": "cat\x00"},
        {"text": "cat\ud800"},
        {"text": "cat", "class_name": "a\x00b"},
        {"boxes": [{"x0": 0, "y0": 0, "x1": 1, "y1": 1}], "box_labels": []},
        {"boxes": [{"x0": 0, "y0": 0, "x1": 1, "y1": 1}], "box_labels": [2]},
        {"boxes": [{"x0": 5, "y0": 0, "x1": 1, "y1": 1}]},
        {"box": {"x0": 0, "y0": 0, "x1": 1, "y1": 1}, "box_labels": [True]},
        {"points": [{"x": float("inf"), "y": 1}]},
    ],
)  # fmt: skip
def test_a_prompt_that_says_too_little_or_too_much_is_refused(content: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ItemPromptDocument.model_validate(content)


def test_boxes_and_clicks_make_a_prompt_for_one_mask() -> None:
    content = {"box": {"x": 0, "y": 0, "width": 2, "height": 2}, "points": [{"x": 1, "y": 1}]}
    prompt = ItemPromptDocument.model_validate(content).to_prompt()
    assert prompt == MaskPrompt(Box(0, 0, 2, 2), (Point(1, 1),))


@pytest.mark.parametrize("name", ["image", "uri", "url", "file_name"])
def test_a_manifest_line_names_its_image_in_several_ways(name: str) -> None:
    assert ManifestLine.model_validate({name: "a.png"}).image == "a.png"


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"image": ""},
        {"image": "a" * 4097},
        {"image": "a\x00.png"},
        {"image": "a.png", "uri": "b.png"},
        {"image": "a.png", "custom_id": 5},
        {"image": "a.png", "custom_id": "a\x00"},
        {"image": "a.png", "label": "cat"},
    ],
)
def test_a_manifest_line_with_no_image_or_too_much_is_refused(content: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ManifestLine.model_validate(content)


def test_an_item_keeps_its_own_uri_beside_what_the_user_wrote() -> None:
    document = ItemDocument.model_validate({"index": 3, "image": "a.png", "uri": "s3://b/a.png"})
    assert document.to_item() == Item(3, "a.png", "s3://b/a.png")
