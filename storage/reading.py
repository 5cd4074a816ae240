"""How long one image's bytes may take to read."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from domain.fetching import Fetch

_ANSWER_SHARE = 1 / 3  # who has not begun to answer by then is asked again, while there is time


class Reading:
    """An image's time, over all its tries. Waiting for its turn, or for room, is free."""

    def __init__(self, fetch: Fetch, *, seconds: float) -> None:
        self._fetch = fetch
        self._seconds = seconds
        self._deadline = monotonic() + seconds

    def seconds_left(self) -> float:
        return self._deadline - monotonic()

    def seconds_to_answer(self) -> float:
        return min(self.seconds_left(), self._seconds * _ANSWER_SHARE)

    def expect(self, size: int) -> None:
        """So many bytes are about to be read in all; waits until there is room for them."""
        with self._clock_stopped():
            self._fetch.expect(size)

    def back_off(self, *, tries: int) -> None:
        with self._clock_stopped():
            self._fetch.back_off(tries=tries)

    def slow_down(self) -> None:
        self._fetch.slow_down()

    @contextmanager
    def _clock_stopped(self) -> Iterator[None]:
        began = monotonic()
        yield
        self._deadline += monotonic() - began
