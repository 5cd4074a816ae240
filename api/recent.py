"""Answers that everybody may ask for, and that are not made anew for everybody."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """Asks again after `seconds` only, however many ask at once: all wait for one task, so that
    they hold one thread at most. Of one event loop."""

    def __init__(self, ask: Callable[[], Awaitable[T]], *, seconds: float) -> None:
        self._ask = ask
        self._seconds = seconds
        self._asked: asyncio.Task[T] | None = None
        self._ask_again_at = 0.0

    async def __call__(self) -> T:
        if self._asked is None or (self._asked.done() and time.monotonic() >= self._ask_again_at):
            self._asked = asyncio.create_task(self._answer())
        return await asyncio.shield(self._asked)  # others wait for it though one goes away

    async def _answer(self) -> T:
        answer = await self._ask()
        self._ask_again_at = time.monotonic() + self._seconds
        return answer
