"""Calls from many threads, done together."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition, Thread
from typing import Generic, TypeVar

import torch

from domain.errors import ImageError
from workers.engine.channel import Closed
from workers.engine.halving import halving

In = TypeVar("In")
Out = TypeVar("Out")

_PATIENCE_SECONDS = 0.002


@dataclass(frozen=True, slots=True, eq=False)
class _Asked(Generic[In, Out]):
    item: In
    answer: Future[Out] = field(default_factory=Future)


class Batcher(Generic[In, Out]):
    """One thread that gives `work` whatever has arrived meanwhile, `most()` items at a time.

    `callers()` says how many may be about to ask, those that wait already included: for them it
    waits a moment, at most 2 ms; a caller on its own is served at once.
    """

    def __init__(
        self,
        work: Callable[[Sequence[In]], list[Out]],
        *,
        name: str,
        device: torch.device,
        most: Callable[[], int],
        callers: Callable[[], int],
    ) -> None:
        self._work, self._device = work, device
        self._most, self._callers = most, callers
        self._waiting: deque[_Asked[In, Out]] = deque()
        self._closed = False
        self._changed = Condition()
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def ask(self, item: In) -> Out:
        """Raises what `work` raised for this item alone, ImageError (out_of_memory) where it was
        too large even alone, and Closed."""
        asked: _Asked[In, Out] = _Asked(item)
        with self._changed:
            if self._closed:
                raise Closed
            self._waiting.append(asked)
            self._changed.notify()
        return asked.answer.result()

    def close(self) -> None:
        """Who waits is answered first."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._take():
            self._answer(batch)

    def _take(self) -> list[_Asked[In, Out]]:
        """[] once it is closed and nobody waits."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._waiting)
            self._changed.wait_for(self._all_here, timeout=_PATIENCE_SECONDS)
            count = min(self._most(), len(self._waiting))
            return [self._waiting.popleft() for _ in range(count)]

    def _all_here(self) -> bool:
        return self._closed or len(self._waiting) >= min(self._most(), self._callers())

    def _answer(self, batch: Sequence[_Asked[In, Out]]) -> None:
        try:
            answers = halving(self._work, [asked.item for asked in batch], device=self._device)
            answered = list(zip(batch, answers, strict=True))
        except BaseException as error:
            if len(batch) > 1:  # the fault of one of them is not the others'
                for asked in batch:
                    self._answer([asked])
                return
            batch[0].answer.set_exception(error)
            return
        for asked, answer in answered:
            if isinstance(answer, ImageError):
                asked.answer.set_exception(answer)
            else:
                asked.answer.set_result(answer)
