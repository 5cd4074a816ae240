"""The document that says what a job's result consists of; readers need nothing else."""

from collections.abc import Iterable, Iterator
from typing import BinaryIO

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from domain.documents import JobPromptDocument


class _Document(BaseModel):
    """Unknown fields are let through: a client reads the manifests of a newer service."""

    model_config = ConfigDict(frozen=True)


class ResultFile(_Document):
    """One Parquet file. `key` is relative to the manifest's results root, in a bucket as in a
    folder on disk; the pattern keeps a foreign manifest from naming a path elsewhere."""

    key: str = Field(pattern=r"^parts/[A-Za-z0-9][A-Za-z0-9._-]*\.parquet$", max_length=255)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)
    rows: int = Field(ge=0)


class ResultPart(_Document):
    """A slice of the job: the annotations and the images of some consecutive images."""

    annotations: ResultFile
    images: ResultFile
    first_image_index: int = Field(ge=0)
    image_count: int = Field(gt=0)


class ResultTotals(_Document):
    images: int = Field(ge=0)
    succeeded: int = Field(ge=0)
    failed: int = Field(ge=0)
    instances: int = Field(ge=0, description="Instances above the job's floor")


class ResultManifest(_Document):
    """`parts` are in image order. A later number supersedes the ones before."""

    job_id: str
    number: int = Field(ge=1)
    created_at: AwareDatetime
    model: str
    weights_sha256: str
    code_version: str
    prompts: list[JobPromptDocument]
    categories: list[str] = Field(description="Class names; the first has the id 1")
    floor: float = Field(ge=0, le=1, description="Score from which instances were kept")
    parts: list[ResultPart]
    totals: ResultTotals


def manifest_pieces(frame: ResultManifest, parts: Iterable[ResultPart]) -> Iterator[bytes]:
    """The manifest as JSON, a part a line, in flat memory. `frame` has no parts of its own."""
    # In a string the quotes would be escaped, so this is found in one place only.
    before, empty, after = frame.model_dump_json().partition('"parts":[]')
    assert empty
    yield (before + '"parts":[').encode()
    for number, part in enumerate(parts):
        yield (",\n" if number else "\n").encode() + part.model_dump_json().encode()
    yield ("]" + after + "\n").encode()


_END = b'],"totals":'  # of the parts


def read_frame(file: BinaryIO) -> ResultManifest:
    """What `manifest_pieces` wrote, without the parts. Raises ValueError for anything else."""
    file.seek(0)
    first, last = file.readline(), b""
    for line in file:
        last = line
    _, end, rest = last.rpartition(_END)
    frame = ResultManifest.model_validate_json(first + end + rest)
    if frame.parts:
        raise ValueError("a manifest whose parts are not on lines of their own")
    return frame


def read_parts(file: BinaryIO) -> Iterator[ResultPart]:
    """Of what `manifest_pieces` wrote, in flat memory."""
    file.seek(0)
    file.readline()
    for line in file:
        yield ResultPart.model_validate_json(line.partition(_END)[0].rstrip(b",\n"))
