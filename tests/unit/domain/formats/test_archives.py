import io
import json
import stat
import zipfile
from pathlib import Path

import pytest

from domain.exports import ExportFormat
from domain.formats.archives import UnsafeName, archive
from tests.unit.domain.hard_masks import FolderSink, hard_source

INFO = hard_source(ExportFormat.YOLO).info


def written(folder: Path) -> bytes:
    with archive(FolderSink(folder), "labels-00000.zip", INFO) as opened:
        opened.add("labels/train/ä b.txt", b"0 0.5 0.5\n" * 100)
        opened.add("picture.png", b"\x89PNG", compressed=False)
    return (folder / "labels-00000.zip").read_bytes()


def test_the_same_archive_has_the_same_bytes_whenever_it_is_written(tmp_path: Path) -> None:
    first = written(tmp_path / "first")
    assert first == written(tmp_path / "second")
    entries = zipfile.ZipFile(io.BytesIO(first)).infolist()
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}


def test_whoever_unpacks_it_may_read_the_files(tmp_path: Path) -> None:
    entries = zipfile.ZipFile(io.BytesIO(written(tmp_path))).infolist()
    modes = {entry.external_attr >> 16 for entry in entries}
    assert modes == {stat.S_IFREG | 0o644}


def test_it_says_where_it_comes_from(tmp_path: Path) -> None:
    opened = zipfile.ZipFile(io.BytesIO(written(tmp_path)))
    note = json.loads(opened.read("maskmill/labels-00000.json"))
    assert (note["job_id"], note["weights_sha256"]) == ("job_1", "0" * 64)


def test_names_outside_ascii_are_kept(tmp_path: Path) -> None:
    zipfile.ZipFile(io.BytesIO(written(tmp_path))).extractall(tmp_path / "unpacked")
    assert (tmp_path / "unpacked/labels/train/ä b.txt").read_bytes().startswith(b"0 0.5")


@pytest.mark.parametrize(
    "name", ["../a", "a/../b", "/a", "a//b", "a/", "./a", "", "a\\..\\b", "a\0b"]
)
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with (
        archive(FolderSink(tmp_path), "labels-00000.zip", INFO) as opened,
        pytest.raises(UnsafeName),
    ):
        opened.add(name, b"")
