"""A whole job on an embedded stack of its own: what `maskmill label` and `maskmill demo` do."""

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from json import loads
from pathlib import Path

import boto3
import pyarrow.parquet as pq
from botocore.exceptions import BotoCoreError, ClientError

from domain.documents import IMAGE_FIELDS, JobPromptDocument
from domain.file_kinds import is_manifest_name
from maskmill.client import ApiError, Client, Job
from maskmill.embedded import EmbeddedStack, StackOptions
from maskmill.engine_choice import Engine, Precision, engine_environment
from maskmill.job_results import JobResults
from maskmill.job_sources import dataset_source, s3_source
from maskmill.result_folder import ReadImage, ResultFolder, write_result_folder

_BUCKET = re.compile(rb"s3://([a-z0-9][a-z0-9._-]{1,62})")


class UnusableSourceError(Exception):
    """What the user named cannot be labelled, with the reason."""


@dataclass(frozen=True, slots=True)
class LabelRequest:
    """`source` is a folder, a manifest file, or s3://. `root` bounds what a manifest file may
    name (its own folder by default); `data` keeps the stack's data (a temporary folder)."""

    source: str
    prompts: Sequence[JobPromptDocument]
    output: Path
    min_score: float | None = None
    floor: float | None = None
    model: str | None = None
    device: str | None = None
    engine: Engine | None = None
    precision: Precision | None = None
    root: Path | None = None
    data: Path | None = None


@dataclass(frozen=True, slots=True)
class Labelled:
    """`result` is None where the job left none; `job.error` says why it failed as a whole."""

    job: Job
    result: ResultFolder | None


@dataclass(frozen=True, slots=True)
class _Source:
    """`folder` is linked where the source is on this machine; `buckets` are what it may read."""

    folder: Path | None = None
    manifest: str | None = None
    uri: str | None = None
    buckets: tuple[str, ...] = ()


def label(
    request: LabelRequest,
    *,
    announce: Callable[[str], None],
    watch: Callable[[Client, str], Job],
) -> Labelled:
    """Start the stack, run the job, write the result folder, stop the stack.

    `watch` waits for the job and shows it. Raises `UnusableSourceError`, `StackError` and the
    client's errors.
    """
    source = _understand(request)
    if not request.prompts and source.manifest is None and not is_manifest_name(request.source):
        raise UnusableSourceError("give at least one --prompt")
    with ExitStack() as stack:
        running = stack.enter_context(_running_stack(request, source, announce=announce))
        client = stack.enter_context(Client(running.url, running.api_key))
        job = client.create_job(
            _as_job_source(running, source),
            request.prompts,
            floor=request.floor,
            model=_model_name(request.model),
        )
        job = watch(client, job.id)
        return Labelled(job, _result(request, client, job, read_image=_image_reader(source)))


def _result(
    request: LabelRequest, client: Client, job: Job, *, read_image: ReadImage
) -> ResultFolder | None:
    """Also of a job that failed on the way: what is labelled is not thrown away."""
    try:
        return write_result_folder(
            request.output,
            JobResults(client, job.id),
            read_image=read_image,
            min_score=request.min_score,
        )
    except ApiError as error:
        if error.code != "no_manifest_yet":
            raise
        return None


def _understand(request: LabelRequest) -> _Source:
    if request.source.startswith("s3://"):
        whole = request.source if not is_manifest_name(request.source) else _bucket(request.source)
        return _Source(uri=request.source, buckets=(whole,))
    path = Path(request.source).expanduser().resolve()
    if path.is_dir():
        return _Source(folder=path)
    if not path.exists():
        raise UnusableSourceError(f"{request.source}: there is no such file or folder")
    if not is_manifest_name(path.name):
        raise UnusableSourceError(
            f"{request.source} is neither a folder nor a manifest (.jsonl, .csv, .parquet, .txt)"
        )
    root = (request.root or path.parent).expanduser().resolve()
    if not path.is_relative_to(root):
        raise UnusableSourceError(f"{request.source} does not lie in {root}")
    return _Source(root, path.relative_to(root).as_posix(), buckets=_buckets_named_in(path))


def _bucket(uri: str) -> str:
    return "/".join(uri.split("/")[:3])


def _buckets_named_in(path: Path) -> tuple[str, ...]:
    """Whoever runs this command is the operator: what the manifest names may be read."""
    found: set[bytes] = set()
    for chunk in _manifest_chunks(path):
        found.update(_BUCKET.findall(chunk))
    return tuple(sorted(f"s3://{name.decode()}" for name in found))


def _manifest_chunks(path: Path) -> Iterator[bytes]:
    if path.suffix.lower() != ".parquet":
        with path.open("rb") as lines:
            yield from lines
        return
    file = pq.ParquetFile(path)
    named = [name for name in file.schema_arrow.names if name in IMAGE_FIELDS]
    for batch in file.iter_batches(batch_size=1024, columns=named):
        yield str(batch.to_pylist()).encode()


@contextmanager
def _running_stack(
    request: LabelRequest, source: _Source, *, announce: Callable[[str], None]
) -> Iterator[EmbeddedStack]:
    allowed = [*os.environ.get("MASKMILL_ALLOWED_SOURCES", "").split(","), *source.buckets]
    environment = {"MASKMILL_ALLOWED_SOURCES": ",".join(filter(None, allowed))}
    if request.model:
        environment["MASKMILL_MODELS"] = _model_name(request.model) or ""
    environment |= engine_environment(
        engine=request.engine, device=request.device, precision=request.precision
    )
    with tempfile.TemporaryDirectory(prefix="maskmill-") as temporary:
        Path(temporary).chmod(0o711)  # as root, PostgreSQL's own user has to pass
        options = StackOptions(
            data=request.data or Path(temporary, "data"),
            extra_environment=environment,
            announce=announce,
            interactive=False,
        )
        with EmbeddedStack(options) as stack:
            yield stack


def _model_name(model: str | None) -> str | None:
    """The stack's processes run elsewhere: a folder is named from the root."""
    if model and Path(model).expanduser().is_dir():
        return str(Path(model).expanduser().resolve())
    return model


def _as_job_source(stack: EmbeddedStack, source: _Source) -> dict[str, str]:
    if source.uri is not None:
        return s3_source(source.uri)
    linked = stack.command(sys.executable, "-m", "api.datasets", "link", str(source.folder))
    return dataset_source(loads(linked.stdout)["id"], manifest=source.manifest)


def _image_reader(source: _Source) -> ReadImage:
    """For the contact sheet, which leaves out what cannot be read here."""
    if source.uri is not None:
        base = source.uri.rpartition("/")[0] if is_manifest_name(source.uri) else source.uri
    else:
        base = str((source.folder or Path()) / (source.manifest or "_"))
        base = os.path.dirname(base)  # noqa: PTH120 - the manifest's folder, or the folder

    def read(image: str) -> bytes | None:
        address = image if "://" in image else f"{base.rstrip('/')}/{image}"
        try:
            return _read_s3(address) if address.startswith("s3://") else _read_file(address)
        except (OSError, BotoCoreError, ClientError):
            return None

    return read


def _read_file(address: str) -> bytes | None:
    return None if "://" in address else Path(address).read_bytes()


def _read_s3(address: str) -> bytes:
    bucket, _, key = address.removeprefix("s3://").partition("/")
    client = boto3.client("s3", endpoint_url=os.environ.get("MASKMILL_S3_ENDPOINT_URL"))
    body: bytes = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    return body
