"""Every key name in the object store.

A job's result lies under a results root: `results_root(job_id)` in the service's own store, or
the prefix that the user named. The keys of its parts and manifests are relative to that root,
so that a manifest stays true wherever the whole result is copied.
"""

import re
import unicodedata

from domain.errors import InvalidRequest

MAX_PATH_BYTES = 900  # S3 takes 1,024 for the whole key
MAX_SEGMENT_BYTES = 255  # a file name in a folder store

PARTS = "parts/"  # below the results root
_PART = re.compile(PARTS + r"(\d{8,})-\d{4,}-t\d+\.(?:annotations|images)\.parquet")


def job_prefix(job_id: str) -> str:
    return f"jobs/{job_id}/"


def shard_lists(job_id: str) -> str:
    """The prefix of them all."""
    return f"{job_prefix(job_id)}shards/"


def shard_list(job_id: str, shard_number: int, *, token: int) -> str:
    """The images of a shard, one `ItemDocument` a line."""
    return f"{shard_lists(job_id)}{shard_number:08d}-t{token}.jsonl"


def sample_list(job_id: str, *, token: int) -> str:
    """The images of a job's sample, in the form of a shard's list; `index` counts the source's."""
    return f"{shard_lists(job_id)}sample-t{token}.jsonl"


def results_root(job_id: str) -> str:
    return f"{job_prefix(job_id)}results/"


def annotations_part(shard_number: int, *, start: int, token: int) -> str:
    """Relative to the results root. `start` is the slice's first image within its shard; the
    fencing `token` keeps two runners of one slice from writing the same object."""
    return f"{_part(shard_number, start, token)}.annotations.parquet"


def images_part(shard_number: int, *, start: int, token: int) -> str:
    """Relative to the results root, as `annotations_part`."""
    return f"{_part(shard_number, start, token)}.images.parquet"


def shard_of_part(key: str) -> int | None:
    """Of a part's key, relative to the results root; None for any other object's."""
    found = _PART.fullmatch(key)
    return int(found[1]) if found else None


def _part(shard_number: int, start: int, token: int) -> str:
    return f"{PARTS}{shard_number:08d}-{start:04d}-t{token}"


def manifest(number: int) -> str:
    """Relative to the results root."""
    return f"manifests/{number:06d}.json"


def export_prefix(export_id: str) -> str:
    """Relative to the results root: of all that any run of the export has left."""
    return f"exports/{export_id}/"


def export_file(export_id: str, name: str, *, token: int) -> str:
    """Relative to the results root; the fencing `token` keeps two runs of one export apart. Raise
    `ValueError` for a name that is not plainly one inside the export."""
    if problem := _path_problem(name):
        raise ValueError(f"{name[:200]!r}: {problem}")
    return f"{export_prefix(export_id)}t{token}/{name}"


def dataset_prefix(dataset_id: str) -> str:
    return f"datasets/{dataset_id}/files/"


def dataset_file(dataset_id: str, path: str) -> str:
    """Raise `InvalidRequest` for a path that is not plainly one inside the dataset."""
    problem = _path_problem(path)
    if problem:
        raise InvalidRequest("invalid_path", f"{path[:200]!r}: {problem}")
    return dataset_prefix(dataset_id) + path


def _path_problem(path: str) -> str | None:
    if any(unicodedata.category(c) in ("Cc", "Cs") or c == "\\" for c in path):
        return "a path must not hold control characters or backslashes"
    segments = path.split("/")
    if any(segment in ("", ".", "..") for segment in segments):
        return "a path must be relative, without empty, '.' or '..' segments"
    if len(path.encode()) > MAX_PATH_BYTES:
        return f"a path may have {MAX_PATH_BYTES} bytes"
    if any(len(segment.encode()) > MAX_SEGMENT_BYTES for segment in segments):
        return f"a file or folder name may have {MAX_SEGMENT_BYTES} bytes"
    return None
