import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import InvalidRequest
from domain.result_manifest import ResultFile
from storage import object_keys


def test_the_keys_of_a_job() -> None:
    assert object_keys.job_prefix("job_1") == "jobs/job_1/"
    assert object_keys.shard_list("job_1", 12, token=7) == "jobs/job_1/shards/00000012-t7.jsonl"
    assert object_keys.results_root("job_1") == "jobs/job_1/results/"


def test_the_keys_of_a_result_are_relative_to_its_root() -> None:
    annotations = object_keys.annotations_part(12, start=64, token=123)
    assert annotations == "parts/00000012-0064-t123.annotations.parquet"
    images = object_keys.images_part(12, start=64, token=123)
    assert images == "parts/00000012-0064-t123.images.parquet"
    assert object_keys.manifest(1) == "manifests/000001.json"


@given(st.integers(0, 10**9), st.integers(0, 255), st.integers(0, 2**63))
def test_a_manifest_can_name_every_part(shard: int, start: int, token: int) -> None:
    for name in (object_keys.annotations_part, object_keys.images_part):
        key = name(shard, start=start, token=token)
        assert ResultFile(key=key, sha256="0" * 64, bytes=1, rows=1).key == key


def test_the_keys_of_an_export_are_its_runs_own() -> None:
    key = object_keys.export_file("exp_1", "images/0001.zip", token=7)
    assert key == "exports/exp_1/t7/images/0001.zip"
    assert key.startswith(object_keys.export_prefix("exp_1"))
    for name in ("../x", "/x", "a//b", "", "a\\b"):
        with pytest.raises(ValueError, match="path"):
            object_keys.export_file("exp_1", name, token=7)


def test_parts_sort_in_image_order() -> None:
    keys = [object_keys.images_part(n, start=s, token=9) for n in (2, 10, 100) for s in (0, 64)]
    assert keys == sorted(keys)


@pytest.mark.parametrize("path", ["a.png", "a/b/c.png", "ü/été .png", "..a/b..", "a" * 255])
def test_plain_paths_are_kept_as_they_are(path: str) -> None:
    assert object_keys.dataset_file("ds_1", path) == f"datasets/ds_1/files/{path}"


@pytest.mark.parametrize(
    "path",
    [
        "", "/", "/etc/passwd", "../x", "a/../../x", "a/..", "a//b", "a/", "./a", "a/./b",
        "a\\b", "..\\x", "a\nb", "a\x00", "\x7f", "\x85", "\ud800", "a" * 256, "a/" * 450 + "b",
        "é" * 128,
    ],
)  # fmt: skip
def test_a_path_that_could_lead_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        object_keys.dataset_file("ds_1", path)
    assert caught.value.code == "invalid_path"


@given(st.text(st.sampled_from("ab./\\\n\0é"), max_size=12))
def test_an_accepted_path_stays_inside_its_dataset(path: str) -> None:
    try:
        key = object_keys.dataset_file("ds_1", path)
    except InvalidRequest:
        return
    assert key == object_keys.dataset_prefix("ds_1") + path
    assert not {"", ".", ".."} & set(path.split("/"))
    assert "\\" not in path
    assert path.isprintable()
