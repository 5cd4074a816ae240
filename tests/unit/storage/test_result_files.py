import io
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.annotations import ImageOutcome, Instance, Rle
from domain.errors import ImageErrorCode
from domain.geometry import Box
from domain.items import Item
from domain.prompts import ConceptPrompt, MaskPrompt
from domain.results import (
    Provenance,
    above_threshold,
    instances_among,
    instances_of,
    iter_images,
    iter_instances,
    read_provenance,
    score_ranges,
)
from storage.result_files import write_parts
from tests.unit.domain.result_rows import JOB_PROMPTS, PROVENANCE, Slice, failed, two_slices


def write(rows: Slice) -> tuple[bytes, bytes]:
    return write_parts(rows, job_prompts=JOB_PROMPTS, provenance=PROVENANCE)


def test_a_slice_reads_back_as_it_was_written() -> None:
    rows = two_slices()[0]
    annotations, images = write(rows)
    first, second = iter_images(images)
    assert (first.image_index, first.image, first.status) == (0, "scene-0.png", "succeeded")
    assert (first.width, first.height, first.instances) == (60, 40, 3)
    assert (second.image_index, second.instances, second.custom_id) == (1, 0, None)
    expected = rows[0][1].instances
    found = list(iter_instances(annotations))
    assert [row.mask for row in found] == [instance.mask for instance in expected]
    assert [row.box for row in found] == [instance.box for instance in expected]
    assert [row.area for row in found] == [instance.area for instance in expected]
    assert [row.category for row in found] == ["red circle", "red circle", "star"]
    assert [row.instance for row in found] == [0, 1, 2]
    assert [row.score for row in found] == [0.9, 0.3, 0.7]


def test_rows_are_in_image_order_whatever_the_order_of_the_outcomes() -> None:
    rows = [row for part in two_slices() for row in part]
    annotations, images = write(rows[::-1])
    assert [row.image_index for row in iter_images(images)] == [0, 1, 2, 3]
    assert [row.image_index for row in iter_instances(annotations)] == [0, 0, 0, 3]


def test_instances_and_scores_of_some_images_are_those_among_all() -> None:
    annotations, _ = write([row for part in two_slices() for row in part])
    all_ = list(iter_instances(annotations))
    assert list(instances_among(annotations, [0, 1, 3])) == all_
    assert list(instances_among(annotations, {3})) == all_[3:]
    assert list(instances_among(annotations, [])) == []
    assert score_ranges(annotations) == {0: (0.3, 0.9), 3: (all_[3].score, all_[3].score)}
    assert score_ranges(write([failed(7)])[0]) == {}


def test_a_failed_image_keeps_its_code_and_message() -> None:
    row = next(iter_images(write([failed(7)])[1]))
    assert not row.succeeded
    assert row.error_code is ImageErrorCode.TRUNCATED
    assert row.error_message == "the file ends early"
    assert (row.image_index, row.custom_id, row.instances) == (7, "own-7", 0)


def test_a_slice_without_instances_makes_a_readable_empty_part() -> None:
    annotations, _ = write([failed(0)])
    assert list(iter_instances(annotations)) == []
    assert instances_of(annotations, 0) == []


def test_the_instances_of_one_image_are_found_in_its_part() -> None:
    annotations, _ = write([row for part in two_slices() for row in part])
    assert [row.instance for row in instances_of(annotations, 0)] == [0, 1, 2]
    assert [row.category for row in instances_of(annotations, 3)] == ["star"]
    assert instances_of(annotations, 1) == []


def test_parts_are_read_from_open_files_too() -> None:
    annotations, images = write(two_slices()[0])
    assert len(list(iter_instances(io.BytesIO(annotations)))) == 3
    assert len(list(iter_images(io.BytesIO(images)))) == 2
    assert len(instances_of(io.BytesIO(annotations), 0)) == 3


def test_every_part_says_where_it_comes_from() -> None:
    provenance = Provenance("job_x", "facebook/sam3", "ab" * 32, "9.9.9")
    parts = write_parts(two_slices()[0], job_prompts=JOB_PROMPTS, provenance=provenance)
    assert [read_provenance(part) for part in parts] == [provenance, provenance]


def test_parts_are_compressed_with_zstd() -> None:
    for part in write(two_slices()[0]):
        column = pq.ParquetFile(io.BytesIO(part)).metadata.row_group(0).column(0)
        assert column.compression == "ZSTD"


def test_another_parquet_file_is_refused_with_the_missing_columns() -> None:
    annotations, images = write(two_slices()[0])
    with pytest.raises(ValueError, match="rle_counts"):
        list(iter_instances(images))
    with pytest.raises(ValueError, match="status"):
        list(iter_images(annotations))


def test_saturated_prompts_and_orientation_survive() -> None:
    item, outcome = two_slices()[0][0]
    changed = replace(outcome, saturated_prompts=(0, 200), orientation=6)
    row = next(iter_images(write([(item, changed)])[1]))
    assert (row.saturated_prompts, row.orientation, row.milliseconds) == ((0, 200), 6, 12.5)


def test_instances_carry_the_threshold_of_their_own_prompt() -> None:
    item_prompts = (
        ConceptPrompt("moon", threshold=0.7),
        MaskPrompt(Box(0, 0, 2, 2)),
        MaskPrompt(Box(0, 0, 2, 2), threshold=0.6),
    )
    template = two_slices()[0][0][1].instances[0]
    found = tuple(replace(template, prompt_index=index, score=0.1) for index in range(5))
    item = Item(0, "a.png", "s3://b/a.png", prompts=item_prompts)
    annotations, _ = write([(item, ImageOutcome(60, 40, instances=found))])
    thresholds = [row.threshold for row in iter_instances(annotations)]
    assert thresholds == [None, 0.8, 0.7, 0.0, 0.6]


@pytest.mark.parametrize(
    ("min_score", "scores"),
    [(None, [0.9, 0.85]), (0.0, [0.9, 0.3, 0.7, 0.85]), (0.7, [0.9, 0.7, 0.85]), (0.95, [])],
)
def test_min_score_replaces_the_prompts_own_thresholds(
    min_score: float | None, scores: list[float]
) -> None:
    annotations, _ = write([row for part in two_slices() for row in part])
    shown = above_threshold(iter_instances(annotations), min_score=min_score)
    assert [row.score for row in shown] == scores


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
boxes = st.tuples(*[st.floats(0, 1e5, width=32)] * 4)
masks = st.builds(
    Rle,
    size=st.tuples(st.integers(1, 20_000), st.integers(1, 20_000)),
    counts=st.binary(max_size=40).map(lambda raw: bytes(48 + b % 64 for b in raw)),
)
instances = st.builds(
    Instance,
    prompt_index=st.integers(0, 1),
    category=texts,
    score=st.floats(0, 1, width=32),
    box=boxes,
    area=st.integers(0, 2**40),
    mask=masks,
)


@given(st.lists(st.lists(instances, max_size=4), max_size=4), texts)
def test_any_instances_read_back_equal(found: list[list[Instance]], name: str) -> None:
    rows = [
        (Item(index, name, "s3://b/k", name), ImageOutcome(5, 5, instances=tuple(entries)))
        for index, entries in enumerate(found)
    ]
    annotations, images = write(rows)
    back = list(iter_instances(annotations))
    assert [
        Instance(
            row.prompt_index,
            row.category,
            float(np.float32(row.score)),
            row.box,
            row.area,
            row.mask,
        )
        for row in back
    ] == [instance for entries in found for instance in entries]
    assert all(row.image == row.custom_id == name for row in back)
    assert [row.instances for row in iter_images(images)] == [len(entries) for entries in found]
