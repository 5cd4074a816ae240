"""Cases made at random: masks that overlap the truth by much, by little or not at all, crowds,
equal scores, several prompts and classes."""

import numpy as np
from hypothesis import strategies as st

from tests.unit.domain.any_masks import masks
from tests.unit.domain.evaluation.cases import Case, Found, Wanted, box

SIZE = (9, 11)
SCORES = [0.1, 0.3, 0.5, 0.51, 0.7, 0.95]


@st.composite
def cases(
    draw: st.DrawFn, *, prompts: int = 2, classes: int = 2, crowds: bool = True
) -> list[Case]:
    return draw(st.lists(_images(prompts, classes, crowds), min_size=1, max_size=5))


@st.composite
def _images(draw: st.DrawFn, prompts: int, classes: int, crowds: bool) -> Case:
    wanted = draw(
        st.lists(
            st.builds(
                Wanted,
                masks(size=SIZE),
                st.integers(0, classes - 1),
                st.booleans() if crowds else st.just(False),
            ),
            max_size=5,
        )
    )
    shapes = masks(size=SIZE)
    if wanted:
        shapes = st.one_of(shapes, _alike([one.mask for one in wanted]))
    prompt = st.integers(0, prompts - 1)
    found = st.lists(st.builds(Found, shapes, st.sampled_from(SCORES), prompt), max_size=7)
    return Case(draw(found), wanted, SIZE)


@st.composite
def _alike(draw: st.DrawFn, drawn: list[np.ndarray]) -> np.ndarray:
    """One of these, but for some pixels."""
    mask = draw(st.sampled_from(drawn)).copy()
    for _ in range(draw(st.integers(0, 6))):
        mask[draw(st.integers(0, SIZE[0] - 1)), draw(st.integers(0, SIZE[1] - 1))] ^= 1
    return mask


def many_cases(images: int, *, prompts: int, seed: int, side: int = 240) -> list[Case]:
    """Boxes of all of COCO's sizes, each found more or less well, and some things that are not
    there."""
    random = np.random.default_rng(seed)
    return [_boxes(random, prompts, side) for _ in range(images)]


def _boxes(random: np.random.Generator, prompts: int, side: int) -> Case:
    wanted, found = [], []
    for _ in range(random.integers(0, 6)):
        x, y, width, height = _box(random, side)
        class_id = int(random.integers(prompts))
        crowd = bool(random.random() < 0.1)
        wanted.append(Wanted(box(x, y, width, height, size=(side, side)), class_id, crowd))
        for _ in range(random.integers(0, 3)):
            near = [max(v + int(random.normal(0, 0.12 * width)), 0) for v in (x, y)]
            mask = box(*near, width, height, size=(side, side))
            prompt = class_id if random.random() < 0.9 else int(random.integers(prompts))
            found.append(Found(mask, round(random.beta(4, 2), 2), prompt))
    for _ in range(random.integers(0, 3)):
        mask = box(*_box(random, side), size=(side, side))
        found.append(Found(mask, round(random.beta(2, 4), 2), int(random.integers(prompts))))
    return Case(found, wanted, (side, side))


def _box(random: np.random.Generator, side: int) -> tuple[int, int, int, int]:
    width, height = (int(random.integers(8, side * 2 // 3)) for _ in range(2))
    return int(random.integers(side - width)), int(random.integers(side - height)), width, height
