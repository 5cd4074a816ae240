"""What a job is made of, as the API has it, and what of a folder is uploaded for it."""

from pathlib import Path

from domain.file_kinds import is_image_path, is_manifest_name


def s3_source(uri: str) -> dict[str, str]:
    """A manifest by its suffix, else a prefix."""
    return {"type": "manifest" if is_manifest_name(uri) else "prefix", "uri": uri}


def dataset_source(dataset_id: str, *, manifest: str | None = None) -> dict[str, str]:
    source = {"type": "dataset", "id": dataset_id}
    return source if manifest is None else {**source, "manifest": manifest}


def image_names(folder: Path) -> list[str]:
    """Images of a folder and the folders in it, relative, in order; hidden ones are left out."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    names = (path.relative_to(folder).as_posix() for path in paths)
    return sorted(name for name in names if is_image_path(name))
