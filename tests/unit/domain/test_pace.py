from datetime import UTC, datetime, timedelta

import pytest

from domain.pace import Stretch, images_per_second

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


def stretch(images: int, began: float, ended: float) -> Stretch:
    return Stretch(images, NOON + timedelta(seconds=began), NOON + timedelta(seconds=ended))


@pytest.mark.parametrize(
    ("stretches", "rate"),
    [
        ([stretch(10, 0, 5)], 2.0),
        ([stretch(10, 0, 5), stretch(10, 1000, 1005)], 2.0),  # idle in between
        ([stretch(10, 0, 5), stretch(10, 0, 5)], 4.0),  # two workers
        ([stretch(10, 2, 6), stretch(10, 0, 4), stretch(4, 1, 3)], 4.0),
        ([stretch(10, 0, 10), stretch(10, 2, 3)], 2.0),  # one within another
        ([], None),
        ([stretch(1, 0, 0)], 1000.0),
    ],
)
def test_the_pace_counts_the_time_in_which_something_was_under_way(
    stretches: list[Stretch], rate: float | None
) -> None:
    assert images_per_second(stretches) == (rate if rate is None else pytest.approx(rate))
