"""Goes each way, compares its answers, and measures all of them in turns."""

import gc
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.engine.agreement import Agreement, agreement, worst_difference
from benchmarks.engine.answers import Answer, Run, Unavailable
from benchmarks.engine.report import Row, Table
from benchmarks.engine.subject import Subject
from benchmarks.engine.ways import Way

_ROUND_SECONDS = 3.0  # of each way; at least one batch
COMPARED_IMAGES = 4


def say(line: str) -> None:
    print(line, flush=True)


@dataclass(frozen=True)
class Expected:
    """What the plain way answered, and the scores it computed where others took their place."""

    answers: list[list[Answer]]
    scores: list[Tensor]


class Meter:
    """`written` is called whenever there is something new in the table."""

    def __init__(self, subject: Subject, files: Sequence[bytes], written: Callable[[], None]):
        self._subject = subject
        self._files = files
        self._written = written

    def expected(self, run: Run) -> Expected:
        return Expected(*self._compared(run))

    def measure(
        self, table: Table, ways: Sequence[Way], rounds: int, expected: Expected | None
    ) -> None:
        """Without `expected`, answers are not compared."""
        table.rows = [Row(way.key, way.name) for way in ways]
        runs: dict[str, Run] = {}
        for way, row in zip(ways, table.rows, strict=True):
            with self._noting(row):
                runs[way.key] = self._warm_up(way, row, expected)
        for number in range(1, rounds + 1):
            for row in table.rows:
                if row.key in runs and row.note is None:
                    with self._noting(row):
                        self._time(row, runs[row.key])
                        say(f"round {number}: {_milliseconds(row)}  {row.name}")

    @contextmanager
    def _noting(self, row: Row) -> Iterator[None]:
        """A way that fails is a line of the table; the others go on."""
        try:
            yield
        except Unavailable as reason:
            row.note = str(reason)
        except Exception as error:
            traceback.print_exc()
            row.note = f"failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
            del error  # and with its traceback what the way had allocated
        gc.collect()
        self._written()

    def _warm_up(self, way: Way, row: Row, expected: Expected | None) -> Run:
        started = time.perf_counter()
        run = way.build()
        answers, scores = self._compared(run)
        row.warm_up_seconds = round(time.perf_counter() - started, 2)
        if expected is not None and way.same_weights:
            row.agreement = _agreement(Expected(answers, scores), expected)
        row.images_per_round = len(self._files) if way.takes_all else self._fitting(run, way.batch)
        say(f"ready in {row.warm_up_seconds:5.1f} s: {row.name}")
        return run

    def _fitting(self, run: Run, batch: int) -> int:
        """Images for a round: whole batches, as far as there are so many files."""
        if len(self._files) <= batch:
            return len(self._files)
        seconds = self._go(run, batch)
        if seconds < _ROUND_SECONDS:  # else the first time, still warming up, will do
            seconds = self._go(run, batch)
        batches = max(1, min(len(self._files) // batch, int(_ROUND_SECONDS / seconds)))
        return batches * batch

    def _time(self, row: Row, run: Run) -> None:
        if self._subject.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        row.seconds_per_image.append(self._go(run, row.images_per_round) / row.images_per_round)
        if self._subject.device.type == "cuda":
            row.peak_bytes = max(row.peak_bytes or 0, torch.cuda.max_memory_allocated() - before)

    def _go(self, run: Run, images: int) -> float:
        """Seconds for so many images."""
        files = self._files[:images]
        self._subject.findings.begin(comparing=False)
        self._synchronize()
        started = time.perf_counter()
        with torch.inference_mode():
            for _ in run(files):
                pass
        self._synchronize()
        return time.perf_counter() - started

    def _compared(self, run: Run) -> tuple[list[list[Answer]], list[Tensor]]:
        self._subject.findings.begin(comparing=True)
        with torch.inference_mode():
            answers = list(run(self._files[:COMPARED_IMAGES]))
        return answers, self._subject.findings.computed

    def _synchronize(self) -> None:
        if self._subject.device.type == "cuda":
            torch.cuda.synchronize()


def _milliseconds(row: Row) -> str:
    return f"{1000 * row.seconds_per_image[-1]:8.1f} ms"


def _agreement(found: Expected, expected: Expected) -> Agreement:
    alike = agreement(found.answers, expected.answers)
    if not expected.scores:
        return alike
    return replace(alike, score_difference=worst_difference(found.scores, expected.scores))
