import csv
import io
from collections.abc import Callable
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.exports import ShownImage
from domain.formats import image_paths
from domain.formats.image_paths import ImageList, ImagePaths, local_path
from domain.formats.yolo import label_path


def shown(index: int, name: str) -> ShownImage:
    return ShownImage(index, name, None, 60, 40, 1, ())


def placed(*names: str) -> list[str]:
    paths = ImagePaths(label_path)
    return [paths.place(shown(index, name)) for index, name in enumerate(names)]


@pytest.mark.parametrize(
    ("reference", "path"),
    [
        ("scenes/a b.jpg", "scenes/a b.jpg"),
        ("2026-05-04T12:00.jpg", "2026-05-04T12:00.jpg"),
        ("s3://bucket/scenes/a.jpg", "bucket/scenes/a.jpg"),
        ("https://example.com/a/b.jpg?width=9#top", "example.com/a/b.jpg"),
        ("/data/a.jpg", "data/a.jpg"),
        ("../../etc/a.jpg", "_up/_up/etc/a.jpg"),
        ("a//./b.jpg", "a/b.jpg"),
        ("..\\a.jpg", ".._a.jpg"),
        ("a\n\u2028.jpg", "a__.jpg"),
        ("what?.jpg", "what?.jpg"),
        ("..", "_up"),
        ("/", "_"),
    ],
)
def test_an_image_keeps_its_name_unless_it_cannot_lie_there(reference: str, path: str) -> None:
    assert local_path(reference) == path


def test_a_name_too_long_for_a_file_keeps_its_suffix() -> None:
    path = local_path("ä" * 300 + ".jpg")
    assert len(path.encode()) <= 200
    assert path.endswith("ä.jpg")


def test_images_that_differ_in_the_suffix_only_do_not_share_a_label() -> None:
    assert placed("a.jpg", "a.png", "b.png") == ["a.jpg", "renamed/1/a.png", "b.png"]


def test_nor_do_those_that_differ_in_case_only_or_in_how_they_are_addressed() -> None:
    names = placed("bucket/a.jpg", "Bucket/A.JPG", "s3://bucket/a.jpg", "bucket/./a.jpg")
    assert names == [
        "bucket/a.jpg",
        "renamed/1/A.JPG",
        "renamed/2/a.jpg",
        "renamed/3/a.jpg",
    ]


def test_a_folder_named_as_that_of_renamed_images_is_no_way_around() -> None:
    assert placed("renamed/2/a.jpg", "a.jpg", "a.png") == [
        "renamed/0/a.jpg",
        "a.jpg",
        "renamed/2/a.png",
    ]


@pytest.mark.parametrize(
    ("names", "paths"),
    [
        # the labels labels/train/a.txt and labels/train/a.txt/b.txt cannot both lie on a disk
        (("a.jpg", "a.txt/b.jpg"), ["a.jpg", "renamed/1/b.jpg"]),
        (("A.TXT/b.jpg", "a.jpg"), ["A.TXT/b.jpg", "renamed/1/a.jpg"]),
        (("a.jpg", "a.jpg/small.jpg"), ["a.jpg", "renamed/1/small.jpg"]),
        (("a", "a/b.jpg", "a/c.jpg"), ["a", "renamed/1/b.jpg", "renamed/2/c.jpg"]),
        (("a/b.jpg", "c.jpg", "a"), ["a/b.jpg", "c.jpg", "renamed/2/a"]),
        (("a.jpg", "a/b.jpg", "a/c/d.jpg"), ["a.jpg", "a/b.jpg", "a/c/d.jpg"]),
    ],
)
def test_no_image_or_label_needs_a_folder_where_another_has_a_file(
    names: tuple[str, ...], paths: list[str]
) -> None:
    assert placed(*names) == paths


def test_an_image_deeper_than_disks_allow_is_renamed() -> None:
    deep = "/".join(["f"] * 2_000)
    assert placed(f"{deep}/a.jpg", "f/a.jpg") == ["renamed/0/a.jpg", "f/a.jpg"]


references = st.lists(
    st.one_of(
        st.text(st.characters(codec="utf-8"), max_size=12),
        st.lists(st.sampled_from(["a", "A", "b.jpg", "b.png", "..", ".", "", "images", "é", "é"]))
        .filter(bool)
        .map("/".join),
        st.lists(st.sampled_from(["a", "a.txt", "A.jpg"]), min_size=1).map("/".join),
    ),
    max_size=30,
)


@given(references)
def test_whatever_images_are_called_no_two_share_a_label_and_none_leaves_the_folder(
    names: list[str],
) -> None:
    paths = placed(*names)
    labels = [label_path(f"images/train/{path}").casefold() for path in paths if "." in path]
    assert len(set(labels)) == len(labels)
    for path in paths:
        parts = path.split("/")
        assert ".." not in parts
        assert "" not in parts
        assert not PurePosixPath(path).is_absolute()


def yolo_files(path: str) -> list[str]:
    """Image and label, as Ultralytics has them."""
    has_suffix = "." in path.rpartition("/")[2]
    image = f"images/train/{path if has_suffix else path + '.jpg'}"
    return [image, label_path(image)]


def voc_files(path: str) -> list[str]:
    stem = path.rpartition(".")[0] if "." in path.rpartition("/")[2] else path
    return [f"JPEGImages/{path}", f"Annotations/{stem}.xml", f"SegmentationClass/{stem}.png"]


@pytest.mark.parametrize("files_of", [yolo_files, voc_files])
@given(names=references)
def test_all_images_and_labels_can_lie_on_one_disk(
    files_of: Callable[[str], list[str]], names: list[str]
) -> None:
    paths = ImagePaths(lambda path: files_of(path)[1])
    placed = [paths.place(shown(index, name)) for index, name in enumerate(names)]
    files = [PurePosixPath(file.casefold()) for path in placed for file in files_of(path)]
    assert len(set(files)) == len(files)
    assert not set(files) & {folder for file in files for folder in file.parents}


def test_names_are_remembered_when_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_paths, "_MERGED_AT", 8)
    names = [f"{number}.jpg" for number in range(100)]
    again = placed(*names, *names)
    assert again[:100] == names
    assert again[100:] == [f"renamed/{100 + number}/{name}" for number, name in enumerate(names)]


def test_the_list_says_for_each_image_where_it_is_to_lie() -> None:
    listed = ImageList()
    listed.append(shown(0, 'a "b", c.jpg'), "images/train/a.jpg")
    rows = list(csv.DictReader(io.StringIO(listed.content().decode())))
    assert rows == [{"image": 'a "b", c.jpg', "custom_id": "", "path": "images/train/a.jpg"}]


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_no_name_begins_a_row_of_its_own_in_the_list(end: str) -> None:
    listed = ImageList()
    listed.append(shown(0, f"a{end}b.jpg"), "images/train/a_b.jpg")
    (row,) = csv.DictReader(io.StringIO(listed.content().decode(), newline=""))
    assert row["image"] == f"a{end}b.jpg"
