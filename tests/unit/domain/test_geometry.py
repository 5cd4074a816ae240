import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.geometry import Box, Point

anything = st.floats()
pixels = st.integers(-10_000, 100_000).map(float)


@given(anything, anything, anything, anything)
def test_a_box_that_exists_is_finite_and_has_an_inside(
    x0: float, y0: float, x1: float, y1: float
) -> None:
    try:
        box = Box(x0, y0, x1, y1)
    except ValueError:
        corners = (x0, y0, x1, y1)
        assert not all(map(math.isfinite, corners)) or not (x1 > x0 and y1 > y0)
    else:
        assert all(map(math.isfinite, (box.x0, box.y0, box.x1, box.y1)))
        assert box.x1 > box.x0
        assert box.y1 > box.y0


@given(pixels, pixels, st.integers(1, 10_000), st.integers(1, 10_000))
def test_sizes_and_corners_describe_the_same_box(x: float, y: float, w: int, h: int) -> None:
    assert Box.from_xywh(x, y, w, h) == Box(x, y, x + w, y + h)


@pytest.mark.parametrize(
    ("width", "height"), [(0, 5), (5, 0), (-5, 5), (math.nan, 5), (math.inf, 5)]
)
def test_a_box_without_an_inside_is_refused(width: float, height: float) -> None:
    with pytest.raises(ValueError, match="box"):
        Box.from_xywh(1, 1, width, height)


@given(anything, anything)
def test_a_point_that_exists_is_finite(x: float, y: float) -> None:
    if math.isfinite(x) and math.isfinite(y):
        assert Point(x, y) == Point(x, y, positive=True)
    else:
        with pytest.raises(ValueError, match="finite"):
            Point(x, y)
