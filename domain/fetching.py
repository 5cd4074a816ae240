"""What somebody who fetches a file and somebody who waits for it tell each other."""

import random
import time
from typing import Protocol

_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0


class Fetch(Protocol):
    """One file on its way. Every method may end the fetch by an exception of its own: let it."""

    def expect(self, size: int) -> None:
        """So many bytes are about to be read in all; waits until there is room for them."""

    def slow_down(self) -> None:
        """The other side asks for fewer requests, or takes too long."""

    def back_off(self, *, tries: int) -> None:
        """Wait before another try; `tries` have failed."""


class LoneFetch:
    """A fetch that nobody else has to make room for."""

    def expect(self, size: int) -> None:
        pass

    def slow_down(self) -> None:
        pass

    def back_off(self, *, tries: int) -> None:
        time.sleep(pause_seconds(tries))


def pause_seconds(tries: int) -> float:
    """Full jitter: fetches that failed together do not come back together."""
    longest = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0**tries)
    return random.uniform(0.0, longest)  # noqa: S311 (no secret)
