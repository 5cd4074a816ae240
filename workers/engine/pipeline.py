"""Many images through the network, with fetching, decoding and encoding beside its work.

    tasks -> feed -> pool: load, decode, squash -> network -> encode: full-size masks, RLE -> caller

Each arrow is a bounded queue: memory stays flat, and nothing runs far ahead of the caller.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread
from typing import Any

from domain.annotations import ImageOutcome
from workers.engine.channel import Channel, Closed
from workers.engine.engine import Engine
from workers.engine.stages import Computed, ImageTask, Prepared, Stages

__all__ = ["ImageTask", "Pipeline"]

_OUTCOMES_AHEAD = 64  # a slice: the network goes on while the caller commits one


class Pipeline:
    """`floor` is the least score with which an instance of a concept is kept; images of more
    than `max_pixels` are refused. `prefetch_threads` load and decode; `images_per_batch` go
    through the network at once (default: what suits its device)."""

    def __init__(
        self,
        engine: Engine,
        *,
        floor: float,
        max_pixels: int,
        prefetch_threads: int = 4,
        images_per_batch: int | None = None,
    ) -> None:
        self._stages = Stages(engine, floor=floor, max_pixels=max_pixels)
        self._prefetch_threads = prefetch_threads
        self._images_per_batch = images_per_batch or engine.images_per_batch

    def run(self, tasks: Iterable[ImageTask]) -> Generator[ImageOutcome, None, None]:
        """Yield one outcome per task, in order.

        `tasks` is read by a thread of its own, a few batches ahead of the network. Closing this
        iterator early (break, close(), an exception in the caller) finishes the batch in flight
        at most; it waits for `tasks` to return from its current step, so that must not block
        for ever. Exceptions of `tasks`, of a `load` or of the network are raised here, after
        the outcomes of the images before.
        """
        run = _Run(self._stages, tasks, self._prefetch_threads, self._images_per_batch)
        try:
            yield from run.outcomes()
        finally:
            run.stop()


@dataclass(frozen=True, slots=True)
class _Failure:
    """Travels down the channels in its place among the results."""

    error: BaseException


class _Run:
    def __init__(
        self,
        stages: Stages,
        tasks: Iterable[ImageTask],
        prefetch_threads: int,
        images_per_batch: int,
    ) -> None:
        self._stages = stages
        self._tasks = tasks
        self._images_per_batch = images_per_batch
        self._pool = ThreadPoolExecutor(prefetch_threads, thread_name_prefix="engine-prefetch")
        self._stopped: Future[None] = Future()
        ahead = 2 * images_per_batch + prefetch_threads
        self._prefetched = Channel[Future[Prepared | ImageOutcome] | _Failure](ahead)
        self._computed = Channel[list[Computed | ImageOutcome] | _Failure](1)
        self._outcomes = Channel[ImageOutcome | _Failure](_OUTCOMES_AHEAD)
        self._threads = [
            _start("engine-feed", self._feed, self._prefetched),
            _start("engine-network", self._compute, self._computed),
            _start("engine-encode", self._encode, self._outcomes),
        ]

    def outcomes(self) -> Iterator[ImageOutcome]:
        while taken := self._outcomes.take():
            yield _unwrap(taken[0])

    def stop(self) -> None:
        self._stopped.set_result(None)
        for channel in (self._prefetched, self._computed, self._outcomes):
            channel.close()
        # Loads in flight run on into their own time limit; nobody waits for them.
        self._pool.shutdown(wait=False, cancel_futures=True)
        for thread in self._threads:
            thread.join()

    def _feed(self) -> None:
        for task in self._tasks:
            self._prefetched.put(self._pool.submit(self._stages.prepare, task))

    def _compute(self) -> None:
        while taken := self._prefetched.take(self._images_per_batch):
            ready, error = self._await(taken)
            if ready:
                self._computed.put(self._compute_batch(ready))
            if error is not None:
                raise error

    def _await(
        self, taken: Sequence[Future[Prepared | ImageOutcome] | _Failure]
    ) -> tuple[list[Prepared | ImageOutcome], BaseException | None]:
        """What is ready before the first failure, and that failure."""
        ready: list[Prepared | ImageOutcome] = []
        for item in taken:
            if isinstance(item, _Failure):
                return ready, item.error
            either: tuple[Future[Any], ...] = (item, self._stopped)
            wait(either, return_when=FIRST_COMPLETED)
            if self._stopped.done():
                raise Closed
            if error := item.exception():
                return ready, error
            ready.append(item.result())
        return ready, None

    def _compute_batch(self, ready: list[Prepared | ImageOutcome]) -> list[Computed | ImageOutcome]:
        prepared = [item for item in ready if isinstance(item, Prepared)]
        computed = iter(self._stages.compute(prepared) if prepared else ())
        return [next(computed) if isinstance(item, Prepared) else item for item in ready]

    def _encode(self) -> None:
        while taken := self._computed.take():
            for item in _unwrap(taken[0]):
                done = self._stages.encode(item) if isinstance(item, Computed) else item
                self._outcomes.put(done)


def _unwrap(item: Any) -> Any:
    if isinstance(item, _Failure):
        raise item.error
    return item


def _start(name: str, work: Callable[[], None], target: Channel[Any]) -> Thread:
    """Run a stage; whatever it raises goes down its channel to the caller's thread."""

    def run() -> None:
        try:
            work()
        except Closed:
            return
        except BaseException as error:
            with suppress(Closed):
                target.put(_Failure(error))
        target.finish()

    thread = Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread
