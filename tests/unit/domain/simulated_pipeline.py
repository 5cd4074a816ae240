"""When slices are committed by a pipeline like that of workers/engine/pipeline.py, by arithmetic.

Fetching (several at once), decoding (a thread a core), the network (batches of what is there) and
encoding (one thread) are in step with one another through bounded queues; slices are cut as
workers/shard_run.py cuts them. Everything is in seconds.
"""

from dataclasses import dataclass, field
from math import sqrt
from random import Random

from domain.estimate import SampledSlice
from domain.planning import (
    FIRST_SLICE_IMAGES,
    MAX_SHARD_IMAGES,
    MAX_SLICE_IMAGES,
    images_per_slice,
)


@dataclass
class Machine:
    """`noise` is the spread (sigma of a log-normal) of what each image takes in each stage."""

    network: float  # an image
    batch: int = 8
    batch_overhead: float = 0.0
    fetch: float = 0.05
    fetches: int = 8
    decode: float = 0.01
    decoders: int = 4
    encode: float = 0.002
    commit: float = 0.02
    claim: float = 0.1  # from one shard to the next
    warm_up: float = 0.0  # of the first batch that the process runs
    noise: float = 0.0
    stall: float = 0.0  # of one batch of the sample
    random: Random = field(default_factory=lambda: Random(0))

    def takes(self, seconds: float, *, images: int = 1) -> float:
        """The mean is `seconds`, whatever the noise."""
        sigma = self.noise / sqrt(images)
        return seconds * self.random.lognormvariate(-sigma * sigma / 2, sigma)


def sample(machine: Machine, images: int, *, runner: str = "w") -> list[SampledSlice]:
    return _Shard(machine, images, runner, began=0.0, is_cold=True).run()


def seconds_of_all(machine: Machine, images: int) -> float:
    """By one worker that has run before, shard by shard."""
    clock = 0.0
    while images > 0:
        count = min(images, MAX_SHARD_IMAGES)
        shard = _Shard(machine, count, "w", began=clock + machine.claim, is_cold=False)
        clock = shard.run()[-1].committed
        images -= count
    return clock


class _Shard:
    def __init__(
        self, machine: Machine, images: int, runner: str, *, began: float, is_cold: bool
    ) -> None:
        self.machine, self.images, self.runner = machine, images, runner
        self.began, self.is_cold = began, is_cold
        self.fed: list[float] = []
        self.taken: list[float] = []  # out of the window
        self.queued: list[float] = []  # for the network
        self.decoded: list[float] = []
        self.batch_began: list[float] = []  # of the batch of each image
        self.slice_ends: list[int] = []
        self.opened: list[float] = []
        self.committed: list[float] = []

    def run(self) -> list[SampledSlice]:
        network_free = encoder_free = caller_free = self.began
        first, batches = 0, 0
        while first < self.images:
            start = max(network_free, self.arrival(first))
            last = first + 1
            while (
                last < min(self.images, first + self.machine.batch) and self.arrival(last) <= start
            ):
                last += 1
            self.batch_began += [start] * (last - first)
            ready = max(start, *self.decoded[first:last])
            work = self.machine.batch_overhead + self.machine.network * (last - first)
            computed = ready + self.machine.takes(work, images=last - first)
            if self.is_cold and batches == 0:
                computed += self.machine.warm_up
            if self.is_cold and batches == 3:
                computed += self.machine.stall
            network_free = max(computed, encoder_free - self.machine.encode * self.machine.batch)
            for image in range(first, last):
                encoder_free = max(encoder_free, network_free) + self.machine.takes(
                    self.machine.encode
                )
                if image + 1 == self.slice_ends[len(self.committed)]:
                    caller_free = max(caller_free, encoder_free) + self.machine.takes(
                        self.machine.commit
                    )
                    self.committed.append(caller_free)
            first, batches = last, batches + 1
        starts = [0, *self.slice_ends]
        return [
            SampledSlice(end - start, self.runner, opened, committed)
            for start, end, opened, committed in zip(
                starts, self.slice_ends, self.opened, self.committed, strict=False
            )
        ]

    def arrival(self, image: int) -> float:
        """At the network's queue."""
        while len(self.queued) <= image:
            self.feed(len(self.queued))
        return self.queued[image]

    def feed(self, image: int) -> None:
        machine = self.machine
        room = self.taken[image - machine.fetches] if image >= machine.fetches else self.began
        fed = max(room, self.fed[-1] if self.fed else self.began)
        if not self.slice_ends or image == self.slice_ends[-1]:
            self.opened.append(fed)
            self.slice_ends.append(min(self.images, image + self.slice_images(fed)))
        queue = 2 * machine.batch + machine.decoders
        before = self.queued[-1] if self.queued else self.began
        taken = max(fed + machine.takes(machine.fetch), before)
        queued = max(taken, self.batch_began[image - queue]) if image >= queue else taken
        decoder = self.decoded[image - machine.decoders] if image >= machine.decoders else 0.0
        self.fed.append(fed)
        self.taken.append(taken)
        self.queued.append(queued)
        self.decoded.append(max(taken, decoder) + machine.takes(machine.decode))

    def slice_images(self, now: float) -> int:
        done = [time for time in self.committed if time <= now]
        if not done:
            return FIRST_SLICE_IMAGES
        images = self.slice_ends[len(done) - 1]
        return min(MAX_SLICE_IMAGES, images_per_slice((done[-1] - self.began) / images))
