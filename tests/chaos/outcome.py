"""What has to be true when all is over, whatever happened: looked up in the parts themselves."""

import hashlib
from collections import Counter
from dataclasses import dataclass, field

from domain.result_manifest import ResultFile, ResultManifest
from domain.results import iter_images, iter_instances
from maskmill.answers import Job
from storage.object_keys import results_root
from tests.chaos.stack import BUCKET, ChaosStack

ROOT = "data/"


@dataclass
class Outcome:
    """`faults` are what must not be: empty is good."""

    images: int = 0
    instances: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    parts: int = 0
    faults: list[str] = field(default_factory=list)

    def require(self, fine: bool, fault: str) -> None:
        if not fine:
            self.faults.append(fault)


def outcome_of(chaos: ChaosStack, job: Job, *, images: int) -> Outcome:
    outcome = Outcome()
    prefix = ROOT + results_root(job.id)
    manifest = _latest_manifest(chaos, prefix)
    seen = Counter[int]()
    for part in manifest.parts:
        instances = iter_instances(_checked(chaos, prefix, part.annotations, outcome))
        outcome.instances += sum(1 for _ in instances)
        for row in iter_images(_checked(chaos, prefix, part.images, outcome)):
            seen[row.image_index] += 1
            outcome.failed.update([str(row.error_code)] if row.error_code else [])
    outcome.images, outcome.parts = len(seen), len(manifest.parts)
    outcome.require(set(seen) == set(range(images)), f"{images - len(seen)} images are missing")
    twice = [index for index, count in seen.items() if count > 1]
    outcome.require(not twice, f"{len(twice)} images are there twice")
    totals = (manifest.totals.images, manifest.totals.succeeded + manifest.totals.failed)
    outcome.require(totals == (images, images), f"totals of the manifest: {manifest.totals}")
    outcome.require(
        manifest.totals.instances == outcome.instances, "instances: totals and parts differ"
    )
    _check_leases(chaos, outcome)
    return outcome


def orphans(chaos: ChaosStack, job: Job) -> set[str]:
    """Objects below the job's parts that no manifest names."""
    prefix = ROOT + results_root(job.id)
    named = set[str]()
    for key in _keys(chaos, f"{prefix}manifests/"):
        manifest = ResultManifest.model_validate_json(_get(chaos, key))
        named |= {file.key for part in manifest.parts for file in (part.annotations, part.images)}
    return {key.removeprefix(prefix) for key in _keys(chaos, f"{prefix}parts/")} - named


def _latest_manifest(chaos: ChaosStack, prefix: str) -> ResultManifest:
    newest = max(_keys(chaos, f"{prefix}manifests/"))
    return ResultManifest.model_validate_json(_get(chaos, newest))


def _checked(chaos: ChaosStack, prefix: str, file: ResultFile, outcome: Outcome) -> bytes:
    data = _get(chaos, prefix + file.key)
    fits = hashlib.sha256(data).hexdigest() == file.sha256 and len(data) == file.bytes
    outcome.require(fits, f"{file.key} is not what the manifest says")
    return data


def _check_leases(chaos: ChaosStack, outcome: Outcome) -> None:
    with chaos.database() as connection:
        for what, query in {
            "open shards": "SELECT count(*) FROM shards WHERE status IN ('pending', 'running')",
            "leases of jobs": "SELECT count(*) FROM jobs WHERE lease_expires_at IS NOT NULL",
            "open slices": "SELECT count(*) FROM slices WHERE status = 'open'",
        }.items():
            row = connection.execute(query).fetchone()
            assert row is not None
            outcome.require(row[0] == 0, f"{row[0]} {what} are left")


def _keys(chaos: ChaosStack, prefix: str) -> list[str]:
    pages = chaos.objects.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


def _get(chaos: ChaosStack, key: str) -> bytes:
    return chaos.objects.get_object(Bucket=BUCKET, Key=key)["Body"].read()
