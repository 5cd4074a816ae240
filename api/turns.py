"""What takes long is done by few at a time; when many wait, others are told to come again."""

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from api.problems import ApiProblem

P = ParamSpec("P")
T = TypeVar("T")


class Turns:
    """Work in `threads` of its own, so that it holds up nothing else. `places` are for what runs
    and what waits, together and of one API key; nothing waits for longer than `seconds`. Of one
    event loop."""

    def __init__(
        self, name: str, *, threads: int, places: int, per_key: int, seconds: float
    ) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._places = places
        self._per_key = per_key
        self._seconds = seconds
        self._taken: Counter[str] = Counter()

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def run(self, key_id: str, work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """Raises a 503 problem."""
        if self._taken.total() >= self._places or self._taken[key_id] >= self._per_key:
            raise _too_busy()
        self._taken[key_id] += 1
        working = self._threads.submit(work, *args, **named)
        working.add_done_callback(self._releasing(key_id))
        try:
            async with asyncio.timeout(self._seconds):
                return await asyncio.wrap_future(working)
        except TimeoutError:
            raise _too_busy() from None

    def _releasing(self, key_id: str) -> Callable[[object], None]:
        """For a thread to call: whoever leaves earlier leaves it behind, with its place."""
        loop = asyncio.get_running_loop()

        def release() -> None:
            self._taken[key_id] -= 1
            self._taken += Counter()  # forgets keys that have none

        def done(_: object) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(release)

        return done


def _too_busy() -> ApiProblem:
    detail = "Too much of this is being done or waits already; try again shortly."
    return ApiProblem(503, "too_busy", detail, headers={"Retry-After": "2"})
