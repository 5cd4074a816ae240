from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.planning import (
    BLAMED_LOSSES,
    MARKS_PER_SHARD,
    MAX_SHARD_IMAGES,
    MAX_SLICE_IMAGES,
    PASSES_PER_SHARD,
    NextSlice,
    ShardBudget,
    Span,
    next_slice,
    passes_of,
    retry_groups,
)
from domain.prompts import MAX_ITEM_PROMPTS, MAX_JOB_PROMPTS, PROMPTS_PER_PASS

spans = st.builds(Span, start=st.integers(0, 255), count=st.integers(1, MAX_SLICE_IMAGES))
near = st.builds(
    Span, start=st.integers(0, 3), count=st.sampled_from([1, 2, 8, 20, 64])
)  # they meet often


@pytest.mark.parametrize(
    ("prompts", "images"), [(0, 256), (1, 256), (16, 256), (64, 256), (65, 204), (256, 64)]
)
def test_a_shard_has_fewer_images_when_each_takes_many_passes(prompts: int, images: int) -> None:
    assert shard_images(prompts) == images


def shard_images(prompts: int, *, marks: int = 0) -> int:
    """How many images of that many prompts and marks fit into one shard."""
    budget = ShardBudget()
    while budget.admits(passes=passes_of(prompts), marks=marks):
        pass
    return budget.images


@given(st.integers(0, 20_000))
def test_items_with_many_boxes_and_points_make_short_lists(marks: int) -> None:
    assert shard_images(1, marks=marks) * marks <= MARKS_PER_SHARD


@given(st.integers(0, MAX_JOB_PROMPTS + MAX_ITEM_PROMPTS))
def test_a_shard_is_never_empty_nor_longer_than_its_limits(prompts: int) -> None:
    images = shard_images(prompts)
    assert 1 <= images <= MAX_SHARD_IMAGES
    assert images * ceil(prompts / PROMPTS_PER_PASS) <= PASSES_PER_SHARD


@given(st.integers(1, 10_000))
def test_more_prompts_never_make_a_longer_shard(prompts: int) -> None:
    assert shard_images(prompts + 1) <= shard_images(prompts)


@given(st.data(), st.integers(1, MAX_SHARD_IMAGES), st.lists(spans, max_size=12))
def test_a_slice_starts_here_is_never_empty_and_stays_within_shard_and_limit(
    data: st.DataObject, shard_images: int, lost: list[Span]
) -> None:
    position = data.draw(st.integers(0, shard_images - 1))
    span = next_slice(position, shard_images=shard_images, lost=lost).span
    assert span.start == position
    assert 1 <= span.count <= MAX_SLICE_IMAGES
    assert span.end <= shard_images


@given(st.integers(0, 3), st.lists(near, max_size=12))
def test_only_an_image_that_was_lost_by_itself_thrice_is_blamed(
    position: int, lost: list[Span]
) -> None:
    chosen = next_slice(position, shard_images=256, lost=lost)
    assert chosen.blamed == (lost.count(Span(position, 1)) >= BLAMED_LOSSES)
    assert not chosen.blamed or chosen.span.count == 1


@given(st.integers(0, 66), st.lists(near, max_size=12))
def test_a_slice_never_leaves_the_smallest_loss_it_starts_in(
    position: int, lost: list[Span]
) -> None:
    around = [span for span in lost if span.covers(position)]
    chosen = next_slice(position, shard_images=256, lost=lost).span
    if around:
        smallest = min(span.count for span in around)
        assert chosen.end <= max(span.end for span in around if span.count == smallest)
    else:
        assert chosen == Span(position, MAX_SLICE_IMAGES)


def test_a_loss_is_run_again_in_eighths_then_image_by_image() -> None:
    lost = [Span(0, 64)]
    assert next_slice(16, shard_images=256, lost=lost).span == Span(16, 8)
    lost.append(Span(16, 8))
    assert next_slice(18, shard_images=256, lost=lost).span == Span(18, 1)
    assert next_slice(24, shard_images=256, lost=lost).span == Span(24, 8)
    assert next_slice(64, shard_images=256, lost=lost).span == Span(64, 64)
    lost += [Span(18, 1), Span(18, 1)]
    assert not next_slice(18, shard_images=256, lost=lost).blamed
    lost.append(Span(18, 1))
    assert next_slice(18, shard_images=256, lost=lost).blamed


@given(st.integers(0, 66), st.lists(near, max_size=12))
def test_a_slice_runs_alone_exactly_where_a_worker_died(position: int, lost: list[Span]) -> None:
    chosen = next_slice(position, shard_images=256, lost=lost)
    assert chosen.alone == any(span.covers(position) for span in lost)


@given(st.integers(0, 3), st.lists(near, max_size=12))
def test_a_slice_that_was_lost_is_never_run_again_unless_it_is_one_image(
    position: int, lost: list[Span]
) -> None:
    chosen = next_slice(position, shard_images=256, lost=lost)
    assert chosen.span not in lost or chosen.span.count == 1


def run_to_the_end(shard_images: int, poison: set[int]) -> tuple[set[int], int]:
    """A shard whose poison images kill their worker whenever they run: (blamed images, losses)."""
    position, lost, blamed, covered = 0, list[Span](), set[int](), list[int]()
    while position < shard_images:
        chosen: NextSlice = next_slice(position, shard_images=shard_images, lost=lost)
        images = range(chosen.span.start, chosen.span.end)
        if chosen.blamed:
            blamed.add(position)
        elif poison.intersection(images):
            lost.append(chosen.span)
            continue
        covered.extend(images)
        position = chosen.span.end
    assert covered == list(range(shard_images)), "every image once, in order"
    return blamed, len(lost)


@given(st.integers(1, MAX_SHARD_IMAGES), st.sets(st.integers(0, MAX_SHARD_IMAGES - 1)))
def test_exactly_the_poison_images_are_blamed(shard_images: int, poison: set[int]) -> None:
    within = {image for image in poison if image < shard_images}
    assert run_to_the_end(shard_images, within)[0] == within


@given(st.integers(1, MAX_SHARD_IMAGES), st.integers(0, MAX_SHARD_IMAGES - 1))
def test_a_single_poison_image_costs_at_most_five_losses(shard_images: int, image: int) -> None:
    _, losses = run_to_the_end(shard_images, {image % shard_images})
    assert losses <= 5


def test_failed_images_run_again_all_at_once() -> None:
    assert retry_groups([3, 17, 40], lost=[]) == [(3, 17, 40)]
    assert retry_groups([3, 17], lost=[Span(64, 10)]) == [(3, 17)]
    assert retry_groups([], lost=[Span(0, 64)]) == []


def test_where_a_runner_died_failed_images_run_again_one_by_one() -> None:
    assert retry_groups([3, 17, 40], lost=[Span(3, 38)]) == [(3,), (17,), (40,)]


def test_an_image_that_was_lost_three_times_by_itself_is_not_run_again() -> None:
    lost = [Span(3, 38), *[Span(17, 1)] * 2]
    assert (17,) in retry_groups([3, 17, 40], lost=lost)
    assert retry_groups([3, 17, 40], lost=[*lost, Span(17, 1)]) == [(3,), (40,)]


@given(st.integers(0, 40), st.integers(0, 40))
def test_a_retry_isolates_whatever_kills_its_worker_and_runs_the_rest(a: int, b: int) -> None:
    positions, poison, lost = list(range(41)), {a, b}, list[Span]()
    for _ in range(1 + BLAMED_LOSSES * len(poison)):
        for group in retry_groups(positions, lost=lost):
            if poison & set(group):
                lost.append(Span(group[0], group[-1] + 1 - group[0]))
                break
    survivors = [position for group in retry_groups(positions, lost=lost) for position in group]
    assert survivors == [position for position in positions if position not in poison]
