"""How fast work has gone lately, however often it stopped in between."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Stretch:
    """Images that were done together, and when."""

    images: int
    began: datetime
    ended: datetime


def images_per_second(stretches: Iterable[Stretch]) -> float | None:
    """All of them by the time in which at least one was under way; None without any."""
    images, busy, until = 0, timedelta(), None
    for one in sorted(stretches, key=lambda stretch: stretch.began):
        start = one.began if until is None else max(one.began, until)
        busy += max(one.ended - start, timedelta())
        until = one.ended if until is None else max(until, one.ended)
        images += one.images
    return images / max(busy.total_seconds(), 0.001) if images else None
