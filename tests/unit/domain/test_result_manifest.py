import io

import pytest
from pydantic import ValidationError

from domain.result_manifest import (
    ResultFile,
    ResultManifest,
    manifest_pieces,
    read_frame,
    read_parts,
)
from tests.unit.domain.result_rows import StoredResult, two_slices


def test_a_manifest_survives_json() -> None:
    manifest = StoredResult(two_slices()).manifest()
    assert ResultManifest.model_validate_json(manifest.model_dump_json(indent=2)) == manifest


@pytest.mark.parametrize("text", ["red circle", '"parts":[]', '\\"parts":[]'])
def test_a_manifest_written_part_by_part_is_the_same_document(text: str) -> None:
    manifest = StoredResult(two_slices()).manifest()
    manifest = manifest.model_copy(update={"categories": [text]})
    for parts in (manifest.parts, manifest.parts[:1], []):
        frame = manifest.model_copy(update={"parts": []})
        body = b"".join(manifest_pieces(frame, iter(parts)))
        assert ResultManifest.model_validate_json(body) == manifest.model_copy(
            update={"parts": parts}
        )


@pytest.mark.parametrize("text", ["red circle", '],"totals":', '"parts":['])
def test_a_manifest_is_read_back_part_by_part(text: str) -> None:
    manifest = StoredResult(two_slices()).manifest()
    frame = manifest.model_copy(update={"parts": [], "categories": [text]})
    for parts in (manifest.parts, manifest.parts[:1], []):
        file = io.BytesIO(b"".join(manifest_pieces(frame, iter(parts))))
        assert read_frame(file) == frame
        assert list(read_parts(file)) == parts


def test_a_manifest_on_one_line_is_not_taken_for_an_empty_one() -> None:
    whole = StoredResult(two_slices()).manifest().model_dump_json().encode()
    with pytest.raises(ValueError, match="lines of their own"):
        read_frame(io.BytesIO(whole))


def test_fields_of_a_newer_service_are_let_through() -> None:
    content = StoredResult(two_slices()).manifest().model_dump(mode="json")
    assert ResultManifest.model_validate(content | {"signature": "new"}).number == 1


@pytest.mark.parametrize(
    "key",
    ["../x.parquet", "/etc/x.parquet", "parts/../x.parquet", "parts/..", "parts/.x.parquet",
     "parts/a/b.parquet", "parts\\a.parquet", "C:/a.parquet", "parts/a.parquet\n", "parts/a.sh"],
)  # fmt: skip
def test_a_manifest_cannot_name_a_file_elsewhere(key: str) -> None:
    with pytest.raises(ValidationError, match="key"):
        ResultFile(key=key, sha256="0" * 64, bytes=1, rows=1)


def test_a_time_without_a_zone_is_refused() -> None:
    content = StoredResult(two_slices()).manifest().model_dump(mode="json")
    with pytest.raises(ValidationError, match="created_at"):
        ResultManifest.model_validate(content | {"created_at": "2026-05-04T00:00:00"})
