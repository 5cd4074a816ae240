"""A job's result as a folder: Parquet parts, COCO JSON, errors and a picture to look at."""

import hashlib
import json
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, TextIO

from domain import export_source
from domain.exports import ExportCounts, ExportFormat, ExportOptions
from domain.formats.coco import write_coco
from domain.result_manifest import ResultFile, ResultManifest
from domain.results import ImageRow, above_threshold, instances_of, iter_images
from domain.view import View
from maskmill.contact_sheet import SheetEntry, SheetInstance, draw_contact_sheet

MAX_SHEET_IMAGES = 24
_DOWNLOADS_AT_ONCE = 8

Progress = Callable[[int, int], None]
"""Called with (files here, files in all)."""

ReadImage = Callable[[str], bytes | None]
"""The bytes of an image, by the reference the user wrote; None where it cannot be had."""


class ResultSource(Protocol):
    """Where a result comes from. `read_part` is called from several threads at once."""

    def manifest(self) -> ResultManifest: ...

    def read_part(self, key: str) -> bytes: ...


class DamagedResult(Exception):
    """A part is not what the manifest says it is."""


@dataclass(frozen=True, slots=True)
class ResultFolder:
    """What was written. `annotations` counts those above the threshold."""

    folder: Path
    images: int
    succeeded: int
    failed: int
    annotations: int


def write_result_folder(
    folder: Path,
    source: ResultSource,
    *,
    read_image: ReadImage,
    min_score: float | None = None,
    on_progress: Progress | None = None,
) -> ResultFolder:
    """Write the whole result of a job; return its counts.

    Files of the same names are replaced, each in one step, and parts of the result that lay here
    before are removed; whatever else lies in the folder is left alone. Parts that are here
    already are not fetched again. The manifest is written last. `min_score` chooses the
    instances of the COCO file and of the picture; the parts hold all of them. Raise
    `DamagedResult` for a part whose SHA-256 is not the manifest's.
    """
    manifest = source.manifest()
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    _fetch_parts(folder, source, _files(manifest), on_progress or (lambda _done, _total: None))
    result = _Result(folder, manifest, min_score)
    coco = result.write_coco()
    failed = result.write_errors()
    result.write_contact_sheet(read_image)
    _remove_superseded_parts(folder, manifest)
    with _replacing(folder / "manifest.json") as temporary:
        temporary.write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return ResultFolder(folder, coco.images + failed, coco.images, failed, coco.instances)


def _remove_superseded_parts(folder: Path, manifest: ResultManifest) -> None:
    """Parts of the result that lay here before: whoever reads parts/*.parquet must not mix two."""
    try:
        before = ResultManifest.model_validate_json((folder / "manifest.json").read_bytes())
    except (FileNotFoundError, ValueError):
        return
    kept = {file.key for file in _files(manifest)}
    for file in _files(before):
        if file.key not in kept:
            (folder / file.key).unlink(missing_ok=True)


def _files(manifest: ResultManifest) -> list[ResultFile]:
    return [file for part in manifest.parts for file in (part.annotations, part.images)]


def _fetch_parts(
    folder: Path, source: ResultSource, files: list[ResultFile], on_progress: Progress
) -> None:
    def fetch(file: ResultFile) -> None:
        path = folder / file.key
        if path.is_file() and _sha256(path.read_bytes()) == file.sha256:
            return
        content = source.read_part(file.key)
        if _sha256(content) != file.sha256:
            raise DamagedResult(f"{file.key} does not have the SHA-256 of the manifest")
        with _replacing(path) as temporary:
            temporary.write_bytes(content)

    on_progress(0, len(files))
    pool = ThreadPoolExecutor(_DOWNLOADS_AT_ONCE)
    try:
        for done, _ in enumerate(pool.map(fetch, files), start=1):
            on_progress(done, len(files))
    finally:
        pool.shutdown(cancel_futures=True)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True, slots=True)
class _Result:
    """A result whose parts lie in the folder; each view reads them again, a part at a time."""

    folder: Path
    manifest: ResultManifest
    min_score: float | None

    def write_coco(self) -> ExportCounts:
        options = ExportOptions(format=ExportFormat.COCO, min_score=self.min_score)
        view = View(options, self.manifest.categories)
        shown = export_source.ResultSource(
            info=export_source.export_info(self.manifest, options, classes=view.classes),
            parts=lambda: self.manifest.parts,
            open_part=lambda key: (self.folder / key).open("rb"),
            show=view.show,
        )
        return write_coco(shown, _FolderSink(self.folder))

    def write_errors(self) -> int:
        """One line per failed image; return how many."""
        count = 0
        with _writing(self.folder / "errors.jsonl") as out:
            for row in self._images():
                if not row.succeeded:
                    out.write(json.dumps(_error(row)) + "\n")
                    count += 1
        return count

    def write_contact_sheet(self, read_image: ReadImage) -> None:
        manifest = self.manifest
        entries = [self._sheet_entry(row, key, read_image) for row, key in self._sheet_images()]
        heading = f"{manifest.model}: {len(entries)} of {manifest.totals.succeeded:,} images"
        with _replacing(self.folder / "contact-sheet.png") as temporary:
            draw_contact_sheet(entries, temporary, categories=manifest.categories, heading=heading)

    def _sheet_entry(self, row: ImageRow, key: str, read_image: ReadImage) -> SheetEntry:
        with (self.folder / key).open("rb") as part:
            rows = instances_of(part, row.image_index)
        shown = above_threshold(rows, min_score=self.min_score)
        instances = [SheetInstance(found.category, found.mask) for found in shown]
        return SheetEntry(row.image, read_image(row.image), instances)

    def _sheet_images(self) -> Iterator[tuple[ImageRow, str]]:
        """Labelled images at even distances, each with the key of its annotations part."""
        chosen = set(_evenly(self.manifest.totals.succeeded, MAX_SHEET_IMAGES))
        position = 0
        for part in self.manifest.parts:
            for row in self._images_of(part.images.key):
                if row.succeeded and position in chosen:
                    yield row, part.annotations.key
                position += row.succeeded

    def _images(self) -> Iterator[ImageRow]:
        for part in self.manifest.parts:
            yield from self._images_of(part.images.key)

    def _images_of(self, key: str) -> Iterator[ImageRow]:
        with (self.folder / key).open("rb") as file:
            yield from iter_images(file)


@dataclass(frozen=True, slots=True)
class _FolderSink:
    folder: Path

    @contextmanager
    def file(self, name: str) -> Iterator[BinaryIO]:
        with _replacing(self.folder / name) as temporary, temporary.open("wb") as out:
            yield out


def _evenly(total: int, most: int) -> list[int]:
    """At most `most` of the numbers below `total`, at even distances."""
    count = min(total, most)
    return [number * total // count for number in range(count)]


def _error(row: ImageRow) -> dict[str, str | None]:
    return {
        "image": row.image,
        "custom_id": row.custom_id,
        "code": row.error_code,
        "message": row.error_message,
    }


@contextmanager
def _writing(path: Path) -> Iterator[TextIO]:
    with _replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as out:
        yield out


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to, put in its place at the end unless something failed."""
    temporary = path.with_name(f".{secrets.token_hex(6)}-{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
