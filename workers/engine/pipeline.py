"""Many images through the network, with fetching, decoding and encoding beside its work.

    tasks -> feed -> load -> decode, squash -> network -> encode: full-size masks, RLE -> caller

Each arrow is a bounded queue: memory stays flat, and nothing runs far ahead of the caller. Loading
waits for others, and decoding computes: the first has as many threads as it takes to keep the
network busy (fetch_window), the second has as many as there are cores.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from contextvars import copy_context  # log lines say whose run it is
from dataclasses import dataclass
from threading import Thread
from typing import Any

from domain.annotations import ImageOutcome, failure
from domain.errors import ImageError
from workers.engine.channel import Channel, Closed
from workers.engine.cores import usable_cores
from workers.engine.engine import Engine
from workers.engine.fetch_window import FetchWindow, Line, Slot
from workers.engine.image_task import ImageTask
from workers.engine.observing import Observe, unobserved
from workers.engine.stages import Computed, Prepared, Stages

__all__ = ["ImageTask", "Pipeline"]

_OUTCOMES_AHEAD = 64  # a slice: the network goes on while the caller commits one
_MOST_DECODERS = 16  # each may have a decoded image at hand


class Pipeline:
    """`floor` is the least score with which an instance of a concept is kept; images of more
    than `max_pixels` are refused. `images_per_batch` go through the network at once (default:
    what suits its device). `window` says how many are loaded at a time; pipelines of one process
    should share it. `observe` is told how long decoding, network and encoding take."""

    def __init__(
        self,
        engine: Engine,
        *,
        floor: float,
        max_pixels: int,
        images_per_batch: int | None = None,
        window: FetchWindow | None = None,
        observe: Observe = unobserved,
    ) -> None:
        self._stages = Stages(engine, floor=floor, max_pixels=max_pixels, observe=observe)
        self._images_per_batch = images_per_batch or engine.images_per_batch
        self._window = window or FetchWindow()

    @property
    def steps(self) -> int:
        """Grows while work goes on, also within a batch: tells slow from stuck."""
        return self._stages.steps

    def run(self, tasks: Iterable[ImageTask]) -> Generator[ImageOutcome, None, None]:
        """Yield one outcome per task, in order.

        `tasks` is read by a thread of its own, a few batches ahead of the network. Closing this
        iterator early (break, close(), an exception in the caller) finishes the batch in flight
        at most; it waits for `tasks` to return from its current step, so that must not block
        for ever. Exceptions of `tasks`, of a `load` or of the network are raised here, after
        the outcomes of the images before.
        """
        run = _Run(self._stages, tasks, self._images_per_batch, self._window)
        try:
            yield from run.outcomes()
        finally:
            run.stop()


@dataclass(frozen=True, slots=True)
class _Failure:
    """Travels down the channels in its place among the results."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class _Loading:
    task: ImageTask
    slot: Slot
    data: Future[bytes]


class _Run:
    def __init__(
        self,
        stages: Stages,
        tasks: Iterable[ImageTask],
        images_per_batch: int,
        window: FetchWindow,
    ) -> None:
        self._stages = stages
        self._tasks = tasks
        self._images_per_batch = images_per_batch
        self._window = window
        self._line = Line()
        decoders = min(_MOST_DECODERS, usable_cores())
        self._loaders = ThreadPoolExecutor(window.most, thread_name_prefix="engine-prefetch")
        self._decoders = ThreadPoolExecutor(decoders, thread_name_prefix="engine-prefetch-decode")
        self._stopped: Future[None] = Future()
        self._hungry = False
        self._loading = Channel[_Loading | _Failure](window.most)
        self._prefetched = Channel[Future[Prepared | ImageOutcome] | _Failure](
            2 * images_per_batch + decoders
        )
        self._computed = Channel[list[Computed | ImageOutcome] | _Failure](1)
        self._outcomes = Channel[ImageOutcome | _Failure](_OUTCOMES_AHEAD)
        self._threads = [
            _start("engine-feed", self._feed, self._loading),
            _start("engine-order", self._decode_in_order, self._prefetched),
            _start("engine-network", self._compute, self._computed),
            _start("engine-encode", self._encode, self._outcomes),
        ]

    def outcomes(self) -> Iterator[ImageOutcome]:
        while taken := self._outcomes.take():
            yield _unwrap(taken[0])

    def stop(self) -> None:
        self._stopped.set_result(None)
        for channel in (self._loading, self._prefetched, self._computed, self._outcomes):
            channel.close()
        # Loads in flight run on into their own time limit; nobody waits for them.
        for pool in (self._loaders, self._decoders):
            pool.shutdown(wait=False, cancel_futures=True)
        self._window.close(self._line)
        for thread in self._threads:
            thread.join()

    def _feed(self) -> None:
        for task in self._tasks:
            slot = self._window.reserve(self._line)
            self._loading.put(_Loading(task, slot, self._load(task, slot)))

    def _load(self, task: ImageTask, slot: Slot) -> Future[bytes]:
        return self._loaders.submit(copy_context().run, _load, task, slot)

    def _decode_in_order(self) -> None:
        while taken := self._loading.take():
            loading: _Loading = _unwrap(taken[0])
            if not loading.data.done():
                self._wait_for_load(loading.data)
            self._window.take(loading.slot)
            self._prefetched.put(self._decoders.submit(self._decode, loading))

    def _wait_for_load(self, data: Future[bytes]) -> None:
        """Whether the network waits as well is asked before and after: it may run out of work
        meanwhile, and get some from another decoder in the end."""
        if self._hungry:
            self._window.starve()
        self._wait(data)
        if self._hungry:
            self._window.starve()

    def _decode(self, loading: _Loading) -> Prepared | ImageOutcome:
        try:
            return self._stages.prepare(loading.task, loading.data.result())
        except ImageError as error:
            return failure(error.code, error.message)
        finally:
            self._window.free(loading.slot)

    def _wait(self, awaited: Future[Any]) -> None:
        either: tuple[Future[Any], ...] = (awaited, self._stopped)
        wait(either, return_when=FIRST_COMPLETED)
        if self._stopped.done():
            raise Closed

    def _compute(self) -> None:
        while taken := self._prefetched.take(self._images_per_batch):
            ready, error = self._await(taken)
            self._hungry = False
            if ready:
                self._computed.put(self._compute_batch(ready))
            if error is not None:
                raise error
            self._hungry = True  # never before the first batch: a start is no bottleneck

    def _await(
        self, taken: Sequence[Future[Prepared | ImageOutcome] | _Failure]
    ) -> tuple[list[Prepared | ImageOutcome], BaseException | None]:
        """What is ready before the first failure, and that failure."""
        ready: list[Prepared | ImageOutcome] = []
        for item in taken:
            if isinstance(item, _Failure):
                return ready, item.error
            self._wait(item)
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


def _load(task: ImageTask, slot: Slot) -> bytes:
    with slot.loading_here():
        return task.load()


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

    thread = Thread(target=copy_context().run, args=(run,), name=name, daemon=True)
    thread.start()
    return thread
