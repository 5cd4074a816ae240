import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import InvalidRequest
from domain.geometry import Box, Point
from domain.prompts import (
    ConceptPrompt,
    MaskPrompt,
    ModelLimits,
    categories,
    check_text_lengths,
    check_threshold,
)

LIMITS = ModelLimits(text_tokens=4, queries=200, image_size=1008)
BOX = Box(0, 0, 1, 1)


def count_words(text: str) -> int:
    return len(text.split()) + 2


@given(st.floats())
def test_a_threshold_is_a_number_between_0_and_1(threshold: float) -> None:
    if 0 <= threshold <= 1:
        check_threshold(threshold)
        return
    with pytest.raises(ValueError, match="between 0 and 1"):
        check_threshold(threshold)


@pytest.mark.parametrize("threshold", [math.nan, math.inf, -0.1, 2])
def test_every_kind_of_prompt_checks_its_threshold(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold"):
        ConceptPrompt("cat", threshold=threshold)
    with pytest.raises(ValueError, match="threshold"):
        MaskPrompt(BOX, threshold=threshold)


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\u00a0"])
def test_a_text_of_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        ConceptPrompt(text)


def test_a_prompt_must_name_something() -> None:
    with pytest.raises(ValueError, match="text or at least one box"):
        ConceptPrompt(None)
    with pytest.raises(ValueError, match="box or at least one point"):
        MaskPrompt(None)


@pytest.mark.parametrize("labels", [(), (True, False)])
def test_every_exemplar_box_has_one_label(labels: tuple[bool, ...]) -> None:
    with pytest.raises(ValueError, match="box_labels"):
        ConceptPrompt("cat", (BOX,), labels)


def test_the_category_is_the_class_name_else_the_text_else_object() -> None:
    assert ConceptPrompt("tabby cat", class_name="cat").category == "cat"
    assert ConceptPrompt("tabby cat").category == "tabby cat"
    assert ConceptPrompt(None, (BOX,), (True,)).category == "object"
    assert MaskPrompt(None, (Point(1, 1),)).category == "object"
    assert MaskPrompt(BOX, class_name="car").category == "car"


def test_a_text_that_the_network_would_cut_is_refused_with_its_index() -> None:
    prompts = [ConceptPrompt("two words"), MaskPrompt(BOX), ConceptPrompt("has three words")]
    check_text_lengths(prompts[:2], LIMITS, count_words)
    with pytest.raises(
        InvalidRequest, match=r"prompt 2 .* has 5 tokens; the model reads 4"
    ) as caught:
        check_text_lengths(prompts, LIMITS, count_words)
    assert caught.value.code == "prompt_too_long"


names = st.text(st.sampled_from("abc"), min_size=1, max_size=2)


@given(st.lists(names, min_size=1), st.lists(names))
def test_categories_are_unique_with_the_jobs_first_and_in_its_order(
    job: list[str], items: list[str]
) -> None:
    found = categories([ConceptPrompt(name) for name in job], items)
    first = list(dict.fromkeys(job))
    assert found[: len(first)] == first
    assert found[len(first) :] == sorted(set(items) - set(job))


@given(st.lists(names, min_size=1), st.lists(names))
def test_category_ids_do_not_depend_on_the_order_of_the_items(
    job: list[str], items: list[str]
) -> None:
    prompts = [ConceptPrompt(name) for name in job]
    assert categories(prompts, items) == categories(prompts, items[::-1])
