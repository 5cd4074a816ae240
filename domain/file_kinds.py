"""Files by the suffix of their names, the same for who uploads and who reads."""

from pathlib import PurePosixPath

IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".jp2"}
    | {".png", ".pgm", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)
MANIFEST_SUFFIXES = frozenset({".jsonl", ".ndjson", ".csv", ".parquet", ".txt"})


def is_image_path(path: str) -> bool:
    """Whether a listed path is taken for an image; hidden files (`._a.jpg`) are not."""
    parts = PurePosixPath(path).parts
    hidden = any(part.startswith(".") for part in parts)
    return not hidden and PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES


def is_manifest_name(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in MANIFEST_SUFFIXES
