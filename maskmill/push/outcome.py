"""What became of a push."""

from collections.abc import Callable
from dataclasses import dataclass

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from maskmill.push.server import UnsureError

_ROUNDS = 6
_growing = wait_random_exponential(multiplier=1, max=30)  # seconds


@dataclass(frozen=True, slots=True)
class Pushed:
    """`sent` images now, `there` before; `url` is where to look at them."""

    project_id: int
    sent: int
    there: int
    url: str


def in_rounds(push: Callable[[], Pushed]) -> Pushed:
    """Until nothing is in doubt: each round asks the server what it has, and sends the rest."""
    rounds = Retrying(
        retry=retry_if_exception_type(UnsureError),
        stop=stop_after_attempt(_ROUNDS),
        wait=_growing,
        reraise=True,
    )
    return rounds(push)
