"""Waiting for what the service does, also while it is restarted."""

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from maskmill.connection import ServiceUnreachableError


class Awaited(Protocol):
    """A job, or an export."""

    @property
    def id(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def ended(self) -> bool: ...


AwaitedT = TypeVar("AwaitedT", bound=Awaited)


def wait_until_ended(
    look: Callable[[], AwaitedT],
    on_progress: Callable[[AwaitedT], None] | None,
    *,
    poll_seconds: float,
    timeout_seconds: float | None,
    patience_seconds: float,
) -> AwaitedT:
    """`TimeoutError` when that takes too long. A service that does not answer for
    `patience_seconds` is waited for."""
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    while True:
        found = _look_patiently(look, patience_seconds)
        if on_progress:
            on_progress(found)
        if found.ended:
            return found
        if deadline is not None and time.monotonic() > deadline:
            raise TimeoutError(f"{found.id} is still {found.status} after {timeout_seconds} s")
        time.sleep(poll_seconds)


def _look_patiently(look: Callable[[], AwaitedT], patience_seconds: float) -> AwaitedT:
    patience_ends = time.monotonic() + patience_seconds
    while True:
        try:
            return look()
        except ServiceUnreachableError:
            if time.monotonic() > patience_ends:
                raise
            time.sleep(1)
