from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.prompt_overlaps import PromptOverlaps
from tests.unit.domain.any_masks import masks
from tests.unit.domain.shown_masks import rectangle, shown

# pycocotools 2.0.11 has not followed numpy 2 here
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_shares_are_of_each_prompts_own_pixels() -> None:
    overlaps = PromptOverlaps(2)
    overlaps.add([rectangle(0, (0, 0, 10, 10)), rectangle(1, (0, 0, 20, 20))])
    assert overlaps.of(0, 1).pixels == 1.0
    assert overlaps.of(1, 0).pixels == 100 / 400
    assert overlaps.of(0, 1).instances == 0.0  # IoU 0.25
    assert list(overlaps.pairs(above=0.5)) == [(0, 1)]


def test_pixels_of_several_masks_of_a_prompt_count_once() -> None:
    overlaps = PromptOverlaps(2)
    twice = [rectangle(0, (0, 0, 10, 10)), rectangle(0, (5, 0, 15, 10))]
    overlaps.add([*twice, rectangle(1, (0, 0, 5, 10)), rectangle(1, (0, 0, 3, 10))])
    assert overlaps.of(0, 1).pixels == pytest.approx(50 / 150)
    assert overlaps.of(1, 0).pixels == 1.0


def test_images_add_up() -> None:
    overlaps = PromptOverlaps(2)
    overlaps.add([rectangle(0, (0, 0, 10, 10)), rectangle(1, (0, 0, 10, 10))])
    overlaps.add([rectangle(0, (0, 0, 30, 10)), rectangle(1, (50, 50, 60, 60))])
    overlaps.add([])
    assert overlaps.of(0, 1).pixels == 100 / 400
    assert overlaps.of(0, 1).instances == 1 / 2
    assert overlaps.of(1, 0).pixels == 100 / 200


def test_an_instance_counts_once_however_many_of_the_other_are_like_it() -> None:
    overlaps = PromptOverlaps(2)
    box = (0, 0, 10, 10)
    overlaps.add([rectangle(0, box), rectangle(1, box), rectangle(1, box), rectangle(1, box)])
    assert overlaps.of(0, 1).instances == 1.0
    assert overlaps.of(1, 0).instances == 1.0


def test_prompts_that_find_nothing_overlap_with_nothing() -> None:
    overlaps = PromptOverlaps(3)
    overlaps.add([rectangle(2, (0, 0, 10, 10))])
    assert overlaps.of(0, 1).pixels == 0.0
    assert list(overlaps.pairs(above=0.0)) == []


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 2), masks(size=(18, 22))), max_size=7))
def test_overlaps_are_what_the_pixels_say(found: list[tuple[int, np.ndarray]]) -> None:
    found = [(prompt, pixels) for prompt, pixels in found if pixels.any()]
    overlaps = PromptOverlaps(3)
    overlaps.add([shown(prompt, pixels) for prompt, pixels in found])
    for one, two in permutations(range(3), 2):
        own = [pixels > 0 for prompt, pixels in found if prompt == one]
        others = [pixels > 0 for prompt, pixels in found if prompt == two]
        if not own:
            continue
        union, other = np.any(own, axis=0), np.any(others, axis=0) if others else False
        assert overlaps.of(one, two).pixels == (union & other).sum() / union.sum()
        alike = [any((a & b).sum() > 0.5 * (a | b).sum() for b in others) for a in own]
        assert overlaps.of(one, two).instances == sum(alike) / len(own)
