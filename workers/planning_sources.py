"""Where a job's images are named: a listing of a prefix or dataset, or a manifest."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from domain.documents import ManifestLine, NewItem
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
from storage.sources import Base, null_images, resolve_reference
from workers.runtime import Runtime

REFUSED = "refused:"  # the address of an item whose reference no user may make


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far planning came: shards and images that exist, how many of the source's images are
    read, and the last one's name. `links_end` is the Unix time at which the first of their links
    expires. `sample_token`: of the lease under which the sample's list was written;
    `source_images`: how many the source had then, once it was read to its end."""

    shards: int = 0
    images: int = 0
    read: int = 0
    after: str | None = None
    links_end: float | None = None
    sample_token: int | None = None
    source_images: int | None = None


Items = Callable[[Cursor], Iterator[NewItem]]


@dataclass(frozen=True, slots=True)
class PlanningSource:
    """`items` goes on after a cursor, and counts the source's images. `reads_again`: it reads what
    is before the cursor first."""

    description: str
    items: Items
    reads_again: bool = False


@contextmanager
def open_source(
    runtime: Runtime, job: Job, *, progress: Callable[[], None]
) -> Iterator[PlanningSource]:
    """The job's images, read as they are asked for. `progress` is called for all that is read,
    images or not: a planner that looks for images is at work.

    Raises `InvalidRequest` where the user has to mend something, and `StoreUnavailable`.
    """
    if count := null_images(job.source.get("uri", "")):
        runtime.sources.check_source(job.source["uri"])
        yield PlanningSource(describe_source(job), _null_items(count))
        return
    store, prefix, base = _place(runtime, job)
    manifest = _manifest_key(job)
    try:
        if manifest is None:
            items = _listing(store, prefix, base=base, progress=progress)
            yield PlanningSource(describe_source(job), items)
        else:
            with _local_copy(store, prefix + manifest) as path:
                items = _manifest_items(runtime, job, path=path, base=base, progress=progress)
                yield PlanningSource(describe_source(job), items, reads_again=True)
    except ObjectNotFound as error:
        raise InvalidRequest("source_not_found", f"{describe_source(job)}: {error}") from error
    except ObjectForbidden as error:
        raise InvalidRequest("source_forbidden", f"{describe_source(job)}: {error}") from error


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


def describe_source(job: Job) -> str:
    source = job.source
    if source["type"] != "dataset":
        return str(source["uri"])
    return f"dataset {source['id']}" + (f", {source['manifest']}" if source.get("manifest") else "")


def _null_items(count: int) -> Items:
    def items(cursor: Cursor) -> Iterator[NewItem]:
        for index in range(cursor.read, count):
            yield NewItem(index, f"{index:09d}.jpg", f"null:{index}")

    return items


def _listing(store: ObjectStore, prefix: str, *, base: Base, progress: Callable[[], None]) -> Items:
    def items(cursor: Cursor) -> Iterator[NewItem]:
        start_after = None if cursor.after is None else prefix + cursor.after
        root = base.root + base.folder
        index = cursor.read
        for found in store.list(prefix, start_after=start_after):
            progress()
            name = found.key.removeprefix(prefix)
            if not is_image_path(name):
                continue
            yield NewItem(index, name, root + name)
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


def _manifest_items(
    runtime: Runtime, job: Job, *, path: Path, base: Base, progress: Callable[[], None]
) -> Items:
    check = _line_check(runtime, job)

    def items(cursor: Cursor) -> Iterator[NewItem]:
        lines = read_manifest(path, kind=manifest_kind(path.name))
        for index, (number, line) in enumerate(lines):
            progress()
            if index < cursor.read:  # an earlier planner's
                continue
            check(number, line)
            address = _address(line.image, base=base)
            yield NewItem(index, line.image, address, line.custom_id, line.prompts)

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
