"""Writes a slice's parts and makes them the result."""

import hashlib
from collections.abc import Sequence
from typing import Any

from domain.annotations import ImageOutcome
from domain.errors import InvalidRequest, LeaseLost
from domain.items import Item
from domain.planning import Span
from domain.results import Provenance
from domain.version import code_version
from storage import object_keys, shards
from storage.jobs import Job
from storage.object_store import ObjectForbidden, ObjectNotFound
from storage.result_files import write_parts
from storage.results_store import results_store
from storage.shards import ShardLease, SliceCounts
from workers.runtime import Runtime

PARQUET = "application/vnd.apache.parquet"


class SliceWriter:
    """`committed` is the number of the shard's images whose outcome stands."""

    def __init__(
        self, runtime: Runtime, job: Job, *, lease: ShardLease, weights_sha256: str
    ) -> None:
        self.committed = lease.committed
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
        number, token = self._lease.number, self._lease.token
        names = (
            object_keys.annotations_part(number, start=span.start, token=token),
            object_keys.images_part(number, start=span.start, token=token),
        )
        self._put(names, bodies)
        parts = {
            "annotations": _file(names[0], bodies[0], rows=counts.instances),
            "images": _file(names[1], bodies[1], rows=len(rows)),
            "item_categories": sorted({p.category for item, _ in rows for p in item.prompts}),
        }
        try:
            with self._database.begin() as connection:
                shards.commit_slice(connection, self._lease, span, counts=counts, parts=parts)
        except LeaseLost:
            self._store.delete(names)  # the token in their names makes them ours alone
            raise
        self.committed = span.end

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


def _file(key: str, body: bytes, *, rows: int) -> dict[str, Any]:
    digest = hashlib.sha256(body).hexdigest()
    return {"key": key, "sha256": digest, "bytes": len(body), "rows": rows}
