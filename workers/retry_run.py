"""A shard's failed images, run again slice by slice; what stands is left as it is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from domain.annotations import ImageOutcome
from domain.items import Item
from domain.planning import Span, retry_groups
from domain.results import iter_images
from storage import object_keys, shards
from storage.database import Database
from storage.merged_parts import Parts
from storage.shards import OpenSlice, Retry, ShardLease
from storage.slices import Slice, failures_of_shard
from workers.slice_writer import SliceWriter

Label = Callable[[Sequence[Item]], list[ImageOutcome]]
"""Runs images; the list is shorter where the run had to stop."""


@dataclass(frozen=True, slots=True)
class RetryRun:
    """`ends` says whether to begin nothing more."""

    database: Database
    lease: ShardLease
    retry: Retry
    items: Sequence[Item]
    writer: SliceWriter
    label: Label
    ends: Callable[[], bool]

    def run(self) -> bool:
        """Whether all that was to be tried again was."""
        with self.database.begin() as connection:
            found = failures_of_shard(connection, self.lease.job_id, self.lease.number)
        return all(self._retry(old) for old in found)

    def _retry(self, old: Slice) -> bool:
        """Run the slice's failed images, and put them in their places with all others as they
        are. One cut short keeps what is done, and the next runner goes on behind it."""
        parts = self.writer.read(old)
        groups = retry_groups(self._wanted(old, parts), lost=self.lease.lost)
        done = self._run(old, groups)
        is_whole = len(done) == sum(map(len, groups))
        if done:
            rows = [(self.items[position], outcome) for position, outcome in done.items()]
            position = old.start + old.count if is_whole else max(done) + 1
            self.writer.replace(old, parts, rows, position=position)
        return is_whole

    def _wanted(self, old: Slice, parts: Parts) -> list[int]:
        """Positions in the shard of the images to run again."""
        first = old.start - old.first_image_index
        rows = ((row.image_index + first, row.error_code) for row in iter_images(parts[1]))
        return [position for position, code in rows if self.retry.wants(code, position=position)]

    def _run(self, old: Slice, groups: Sequence[Sequence[int]]) -> dict[int, ImageOutcome]:
        done: dict[int, ImageOutcome] = {}
        for group in groups:
            if self.ends():
                break
            self._open(old, group)
            outcomes = self.label([self.items[position] for position in group])
            done.update(zip(group, outcomes, strict=False))
        return done

    def _open(self, old: Slice, group: Sequence[int]) -> None:
        """On record before they run, so that the next runner knows what killed this process."""
        number, token = self.lease.number, self.lease.token
        new = OpenSlice(
            Span(old.start, old.count),
            object_keys.annotations_part(number, start=old.start, token=token),
            object_keys.images_part(number, start=old.start, token=token),
        )
        running = Span(group[0], group[-1] + 1 - group[0])
        with self.database.begin() as connection:
            shards.open_slice(connection, self.lease, new, running=running)
