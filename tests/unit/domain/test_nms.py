"""Suppression against a plain one on exact IoUs; what concerns the interactive endpoints is in
tests/unit/workers/interactive/test_nms.py."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.nms import Candidates, survivors
from tests.unit.domain.any_masks import encoded, masks, tight_box

SIZE = (8, 9)
RIVALRIES: dict[str, Callable[[int, int], bool]] = {
    "all": lambda one, other: True,
    "same": lambda one, other: one == other,
    "other": lambda one, other: one != other,
}
UFUNCS = {"all": None, "same": np.equal, "other": np.not_equal}


def candidates(
    found: list[np.ndarray], scores: list[float], groups: list[int] | None = None
) -> Candidates:
    return Candidates(
        scores,
        [encoded(mask)[0] for mask in found],
        [tight_box(mask) for mask in found],
        [int(mask.sum()) for mask in found],
        groups,
    )


def iou(one: np.ndarray, other: np.ndarray) -> float:
    union = (one | other).sum()
    return float((one & other).sum() / union) if union else 0.0


@given(
    st.lists(
        st.tuples(masks(size=SIZE), st.sampled_from([0.5, 0.7, 0.8]), st.integers(0, 2)),
        max_size=7,
    ),
    st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]),
    st.sampled_from(sorted(RIVALRIES)),
)
def test_a_mask_stays_unless_a_better_rival_that_stays_overlaps_it(
    found: list[tuple[np.ndarray, float, int]], iou_threshold: float, rivalry: str
) -> None:
    kept: list[int] = []
    for place in sorted(range(len(found)), key=lambda place: (-found[place][1], place)):
        mask, _, group = found[place]
        if all(
            iou(mask, found[other][0]) <= iou_threshold
            for other in kept
            if RIVALRIES[rivalry](group, found[other][2])
        ):
            kept.append(place)

    columns = [list(column) for column in zip(*found, strict=True)] or [[], [], []]
    left = survivors(candidates(*columns), iou_threshold=iou_threshold, rivalry=UFUNCS[rivalry])

    assert left == sorted(kept)


def test_of_equal_scores_the_earlier_mask_stays() -> None:
    whole = np.ones(SIZE, np.uint8)
    assert survivors(candidates([whole, whole], [0.5, 0.5]), iou_threshold=0.5) == [0]


def test_what_is_raised_before_a_mask_ends_the_comparison() -> None:
    def out_of_time() -> None:
        raise TimeoutError

    whole = np.ones(SIZE, np.uint8)
    with pytest.raises(TimeoutError):
        survivors(candidates([whole], [0.5]), iou_threshold=0.5, before_each=out_of_time)
