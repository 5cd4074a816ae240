"""Writes a slice's parts and makes them the result."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection

from domain.annotations import ImageOutcome
from domain.errors import ImageErrorCode, InvalidRequest, LeaseLost
from domain.items import Item
from domain.planning import Span
from domain.results import Provenance, iter_images
from domain.version import code_version
from storage import object_keys, shards, tracing
from storage.jobs import Job
from storage.merged_parts import Parts, merged_parts
from storage.object_store import ObjectForbidden, ObjectNotFound, ObjectTooLarge
from storage.result_files import write_parts
from storage.results_store import results_store
from storage.retries import replace_slice
from storage.shards import ShardLease, SliceCounts
from storage.slices import Slice
from workers.runtime import Runtime
from workers.stage_times import StageTimes

PARQUET = "application/vnd.apache.parquet"


class SliceWriter:
    """`committed` is the number of the shard's images whose outcome stands."""

    def __init__(
        self,
        runtime: Runtime,
        job: Job,
        *,
        lease: ShardLease,
        weights_sha256: str,
        times: StageTimes,
    ) -> None:
        self.committed = lease.committed
        self.images = self.failures = 0  # of this run
        self._metrics = runtime.metrics
        self._times = times
        self._database = runtime.database
        self._output = job.output
        self._lease = lease
        self._prompts = job.parsed_prompts()
        self._store = results_store(job, settings=runtime.settings)
        self._provenance = Provenance(job.id, job.model, weights_sha256, code_version())

    def commit(self, span: Span, rows: Sequence[tuple[Item, ImageOutcome]]) -> None:
        """Write both parts under the keys on record, then compare and set; raises `LeaseLost`.

        `span` may end before the slice that was opened does (a run cut short).
        """
        bodies = write_parts(rows, job_prompts=self._prompts, provenance=self._provenance)
        counts = _count(rows)
        facts = {
            "item_categories": sorted({p.category for item, _ in rows for p in item.prompts}),
            "failures": _failures(outcome.error_code for _, outcome in rows),
        }
        with (
            self._watched(rows),
            self._written(span.start, bodies, counts=counts, facts=facts) as parts,
            self._database.begin() as connection,
        ):
            shards.commit_slice(connection, self._lease, span, counts=counts, parts=parts)
            self.keep_times(connection)
        self.committed = span.end

    def read(self, old: Slice) -> Parts:
        """Raises `InvalidRequest` where the store has not what was written."""
        return self._read(old.parts["annotations"]), self._read(old.parts["images"])

    def replace(
        self,
        old: Slice,
        parts: Parts,
        rows: Sequence[tuple[Item, ImageOutcome]],
        *,
        position: int,
    ) -> None:
        """Commit a slice with `rows` in the place of the same images, which had failed, and all
        others as they are in `parts`, those of `old`; raises `LeaseLost`. See `replace_slice`."""
        new = write_parts(rows, job_prompts=self._prompts, provenance=self._provenance)
        bodies = merged_parts(parts, new)
        again = _count(rows)
        counts = SliceCounts(
            old.count - old.failed + again.succeeded,
            old.failed - again.succeeded,
            old.parts["annotations"]["rows"] + again.instances,
        )
        facts = {
            "item_categories": old.parts["item_categories"],
            "failures": _failures(row.error_code for row in iter_images(bodies[1])),
        }
        with (
            self._watched(rows),
            self._written(old.start, bodies, counts=counts, facts=facts) as written,
            self._database.begin() as connection,
        ):
            replace_slice(
                connection, self._lease, old, counts=counts, parts=written, position=position
            )
            self.keep_times(connection)

    def keep_times(self, connection: Connection) -> None:
        """What the stages have taken since this was last called, also for images of later slices:
        several are on their way at a time."""
        shards.add_stage_seconds(connection, self._lease, self._times.take())

    @contextmanager
    def _watched(self, rows: Sequence[tuple[Item, ImageOutcome]]) -> Iterator[None]:
        """What the block commits counts."""
        failures = sum(not outcome.succeeded for _, outcome in rows)
        with (
            tracing.span("commit slice", images=len(rows), failures=failures),
            self._times.stage("commit"),
        ):
            yield
        self._metrics.images_done(outcome for _, outcome in rows)
        self.images += len(rows)
        self.failures += failures

    @contextmanager
    def _written(
        self, start: int, bodies: Parts, *, counts: SliceCounts, facts: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        """Both parts in the store, and what PostgreSQL keeps of them. The block commits them:
        where the lease is lost they are deleted."""
        number, token = self._lease.number, self._lease.token
        names = (
            object_keys.annotations_part(number, start=start, token=token),
            object_keys.images_part(number, start=start, token=token),
        )
        self._put(names, bodies)
        try:
            yield {
                "annotations": _file(names[0], bodies[0], rows=counts.instances),
                "images": _file(names[1], bodies[1], rows=counts.succeeded + counts.failed),
                **facts,
            }
        except LeaseLost:
            self._store.delete(names)  # the token in their names makes them ours alone
            raise

    def _read(self, written: dict[str, Any]) -> bytes:
        try:
            body = self._store.get(written["key"], max_bytes=written["bytes"])
        except (ObjectNotFound, ObjectTooLarge):
            body = b""
        if hashlib.sha256(body).hexdigest() != written["sha256"]:
            message = f"{written['key']} is not what was written; the output changed"
            raise InvalidRequest("result_damaged", message)
        return body

    def _put(self, names: Sequence[str], bodies: Sequence[bytes]) -> None:
        try:
            for name, body in zip(names, bodies, strict=True):
                self._store.put(name, body, content_type=PARQUET)
        except (ObjectForbidden, ObjectNotFound) as error:
            if self._output is None:
                raise
            message = f"{self._output} does not take the results: {error}"
            raise InvalidRequest("output_refused", message) from error


def _count(rows: Sequence[tuple[Item, ImageOutcome]]) -> SliceCounts:
    succeeded = sum(outcome.succeeded for _, outcome in rows)
    instances = sum(len(outcome.instances) for _, outcome in rows)
    return SliceCounts(succeeded, len(rows) - succeeded, instances)


def _failures(codes: Iterable[ImageErrorCode | None]) -> dict[str, int]:
    return dict(Counter(str(code) for code in codes if code is not None))


def _file(key: str, body: bytes, *, rows: int) -> dict[str, Any]:
    digest = hashlib.sha256(body).hexdigest()
    return {"key": key, "sha256": digest, "bytes": len(body), "rows": rows}
