"""Where a job's images are named: a listing of a prefix or dataset, or a manifest."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

from domain.documents import ItemDocument, ManifestLine
from domain.errors import ImageError, InvalidRequest
from domain.file_kinds import is_image_path
from domain.prompts import ModelLimits, Prompt, TokenCounter, check_text_lengths
from domain.tokens import token_counter
from storage.datasets import local_root
from storage.jobs import Job
from storage.local_store import LocalStore
from storage.manifests import manifest_kind, read_manifest
from storage.models import find_model
from storage.object_keys import dataset_prefix
from storage.object_store import (
    ObjectForbidden,
    ObjectNotFound,
    ObjectStore,
    split_s3_uri,
)
from storage.sources import Base, resolve_reference
from workers.runtime import Runtime

REFUSED = "refused:"  # the address of an item whose reference no user may make


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far planning came: shards and images that exist, and the last image's name."""

    shards: int = 0
    images: int = 0
    after: str | None = None


Items = Callable[[Cursor], Iterator[ItemDocument]]


@dataclass(frozen=True, slots=True)
class PlanningSource:
    """`items` goes on after a cursor."""

    description: str
    items: Items


@contextmanager
def open_source(runtime: Runtime, job: Job) -> Iterator[PlanningSource]:
    """The job's images, read as they are asked for.

    Raises `InvalidRequest` where the user has to mend something, and `StoreUnavailable`.
    """
    store, prefix, base = _place(runtime, job)
    manifest = _manifest_key(job)
    try:
        if manifest is None:
            yield PlanningSource(_describe(job), _listing(store, prefix, base=base))
        else:
            with _local_copy(store, prefix + manifest) as path:
                yield PlanningSource(
                    _describe(job), _manifest_items(runtime, job, path=path, base=base)
                )
    except ObjectNotFound as error:
        raise InvalidRequest("source_not_found", f"{_describe(job)}: {error}") from error
    except ObjectForbidden as error:
        raise InvalidRequest("source_forbidden", f"{_describe(job)}: {error}") from error


def _place(runtime: Runtime, job: Job) -> tuple[ObjectStore, str, Base]:
    """The store that holds the source, the prefix to list in it, and where paths start."""
    source = job.source
    if source["type"] == "dataset":
        return _dataset_place(runtime, job)
    runtime.sources.check_source(source["uri"])
    store, prefix = runtime.sources.folder_for(source["uri"])
    if source["type"] == "manifest":
        return store, "", Base.of_s3_file(source["uri"])
    return store, prefix, Base(f"s3://{split_s3_uri(source['uri'])[0]}/", prefix)


def _dataset_place(runtime: Runtime, job: Job) -> tuple[ObjectStore, str, Base]:
    with runtime.database.begin() as connection:
        root = local_root(connection, job.source)
    manifest = PurePosixPath(job.source.get("manifest") or "")
    folder = "" if manifest.parent == PurePosixPath() else str(manifest.parent)
    if root is not None:
        return LocalStore(root), "", Base("local:", folder)
    prefix = dataset_prefix(job.source["id"])
    return runtime.objects, prefix, Base(f"object:{prefix}", folder)


def _manifest_key(job: Job) -> str | None:
    if job.source["type"] == "manifest":
        return split_s3_uri(job.source["uri"])[1]
    manifest: str | None = job.source.get("manifest")
    return manifest


def _describe(job: Job) -> str:
    source = job.source
    if source["type"] != "dataset":
        return str(source["uri"])
    return f"dataset {source['id']}" + (f", {source['manifest']}" if source.get("manifest") else "")


def _listing(store: ObjectStore, prefix: str, *, base: Base) -> Items:
    def items(cursor: Cursor) -> Iterator[ItemDocument]:
        start_after = None if cursor.after is None else prefix + cursor.after
        index = cursor.images
        for found in store.list(prefix, start_after=start_after):
            name = found.key.removeprefix(prefix)
            if not is_image_path(name):
                continue
            yield ItemDocument(index=index, image=name, uri=base.root + base.folder + name)
            index += 1

    return items


@contextmanager
def _local_copy(store: ObjectStore, key: str) -> Iterator[Path]:
    """A manifest is read from disk: it may be large, and planning may take long."""
    with tempfile.TemporaryDirectory(prefix="maskmill-") as folder:
        path = Path(folder, "manifest" + PurePosixPath(key).suffix.lower())
        with store.open(key) as source, path.open("wb") as target:
            shutil.copyfileobj(source, target)
        yield path


def _manifest_items(runtime: Runtime, job: Job, *, path: Path, base: Base) -> Items:
    check = _line_check(runtime, job)

    def items(cursor: Cursor) -> Iterator[ItemDocument]:
        lines = read_manifest(path, kind=manifest_kind(path.name))
        for index, (number, line) in enumerate(
            islice(lines, cursor.images, None), start=cursor.images
        ):
            check(number, line)
            yield ItemDocument(
                index=index,
                image=line.image,
                uri=_address(line.image, base=base),
                custom_id=line.custom_id,
                prompts=line.prompts,
            )

    return items


def _address(reference: str, *, base: Base) -> str:
    """A reference that no user may make fails its image, not the job."""
    try:
        return resolve_reference(reference, base=base)
    except ImageError:
        return REFUSED


def _line_check(runtime: Runtime, job: Job) -> Callable[[int, ManifestLine], None]:
    """Prompts that cannot be run are found before anything runs, with the line's number."""
    with runtime.database.begin() as connection:
        model = find_model(connection, job.model)
    counter = token_counter(model.tokenizer_json) if model else None

    def check(number: int, line: ManifestLine) -> None:
        if not line.prompts and not job.prompts:
            raise InvalidRequest(
                "manifest_invalid", "neither this line nor the job has prompts", line=number
            )
        if model and counter and line.prompts:
            prompts = [prompt.to_prompt() for prompt in line.prompts]
            _check_lengths(prompts, model.limits, counter, line=number)

    return check


def _check_lengths(
    prompts: list[Prompt], limits: ModelLimits, counter: TokenCounter, *, line: int
) -> None:
    try:
        check_text_lengths(prompts, limits, counter)
    except InvalidRequest as error:
        raise InvalidRequest(error.code, error.message, line=line) from error
