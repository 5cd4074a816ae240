"""Does a worker's part without a network: commits slices of a job with given outcomes."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

from domain.annotations import ImageOutcome, Instance, Rle
from domain.documents import JobPromptDocument
from domain.items import Item
from domain.lifecycle import JobStatus
from domain.planning import Span
from domain.prompts import categories
from domain.result_manifest import (
    ResultFile,
    ResultManifest,
    ResultPart,
    ResultTotals,
    manifest_pieces,
)
from domain.results import Provenance
from storage import jobs, object_keys, shards
from storage.jobs import Job
from storage.progress import progress_of
from storage.result_files import write_parts
from storage.results_store import results_store
from storage.shards import NewShard, OpenSlice, ShardLease, SliceCounts
from storage.slices import all_committed_slices
from storage.transitions import move_job
from tests.integration.api.conftest import Api

# Two columns of three pixels: 4 off, 3 on, 1 off, 3 on, 13 off.
MASK = Rle((4, 6), b"4310<")


def found(score: float, *, prompt_index: int = 0, category: str = "red circle") -> Instance:
    return Instance(prompt_index, category, score, (1.0, 0.0, 2.0, 3.0), 6, MASK)


def labelled(*instances: Instance) -> ImageOutcome:
    return ImageOutcome(width=6, height=4, instances=instances)


def plan(api: Api, job_id: str, *, images: int) -> ShardLease:
    """One shard, claimed."""
    with api.database.begin() as connection:
        planner = jobs.claim_job(connection, job_id, finishing=False, owner="t", lease_seconds=60)
        assert planner is not None
        assert move_job(connection, job_id, to=JobStatus.PLANNING)
        shards.add_shards(connection, job_id, [NewShard(0, 0, images)])
        assert move_job(connection, job_id, to=JobStatus.RUNNING)
        jobs.release_job(connection, planner)
        models = ["demo-sam3"]
        lease = shards.claim_shard(connection, owner="t", models=models, lease_seconds=60)
    assert lease is not None
    assert lease.job_id == job_id
    return lease


def commit(
    api: Api, lease: ShardLease, outcomes: Sequence[ImageOutcome], *, start: int = 0
) -> None:
    with api.database.begin() as connection:
        job = jobs.find_job(connection, lease.job_id)
    assert job is not None
    rows = [
        (Item(start + n, f"image-{start + n}.png", "object:x", f"id-{start + n}"), outcome)
        for n, outcome in enumerate(outcomes)
    ]
    provenance = Provenance(job.id, job.model, "0" * 64, "1")
    bodies = write_parts(rows, job_prompts=job.parsed_prompts(), provenance=provenance)
    keys = (
        object_keys.annotations_part(lease.number, start=start, token=lease.token),
        object_keys.images_part(lease.number, start=start, token=lease.token),
    )
    store = results_store(job, settings=api.settings)
    for key, body in zip(keys, bodies, strict=True):
        store.put(key, body)
    counts = SliceCounts(
        succeeded=sum(outcome.succeeded for outcome in outcomes),
        failed=sum(not outcome.succeeded for outcome in outcomes),
        instances=sum(len(outcome.instances) for outcome in outcomes),
    )
    parts = {
        name: {
            "key": key,
            "sha256": hashlib.sha256(body).hexdigest(),
            "bytes": len(body),
            "rows": number,
        }
        for name, key, body, number in zip(
            ("annotations", "images"), keys, bodies, (counts.instances, len(rows)), strict=True
        )
    }
    span = Span(start, len(rows))
    with api.database.begin() as connection:
        shards.open_slice(connection, lease, OpenSlice(span, *keys))
        shards.commit_slice(connection, lease, span, counts=counts, parts=parts)


def finish(api: Api, lease: ShardLease) -> None:
    with api.database.begin() as connection:
        assert shards.complete_shard(connection, lease)
        job_lease = jobs.claim_job(
            connection, lease.job_id, finishing=True, owner="t", lease_seconds=60
        )
        job = jobs.find_job(connection, lease.job_id)
    assert job is not None
    assert job_lease is not None
    write_manifest(api, job)
    with api.database.begin() as connection:
        assert jobs.finish_job(connection, job_lease, to=JobStatus.SUCCEEDED, manifest_number=1)


def write_manifest(api: Api, job: Job) -> None:
    with api.database.begin() as connection:
        slices = list(all_committed_slices(connection, job.id))
        progress = progress_of(connection, [job.id])[job.id]
    manifest = ResultManifest(
        job_id=job.id,
        number=1,
        created_at=datetime.now(UTC),
        model=job.model,
        weights_sha256="",
        code_version="1",
        prompts=[JobPromptDocument.model_validate(prompt) for prompt in job.prompts],
        categories=categories(job.parsed_prompts()),
        floor=job.floor,
        parts=[
            ResultPart(
                annotations=ResultFile(**part.parts["annotations"]),
                images=ResultFile(**part.parts["images"]),
                first_image_index=part.first_image_index,
                image_count=part.count,
            )
            for part in slices
        ],
        totals=ResultTotals(
            images=progress.total,
            succeeded=progress.succeeded,
            failed=progress.failed,
            instances=progress.instances,
        ),
    )
    store = results_store(job, settings=api.settings)
    frame = manifest.model_copy(update={"parts": []})
    body = b"".join(manifest_pieces(frame, manifest.parts))
    store.put(object_keys.manifest(1), body)
