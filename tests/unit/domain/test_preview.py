import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from domain.documents import JobPromptDocument
from domain.estimate import SampledSlice, estimate
from domain.exports import ShownImage, ShownInstance
from domain.findings import PromptFinding, Severity
from domain.preview import PreviewReport, Reading, preview
from tests.unit.domain.shown_masks import ShownSource, rectangle

Images = Sequence[Sequence[ShownInstance]]


def prompts(*texts: str, **fields: object) -> list[JobPromptDocument]:
    return [JobPromptDocument(text=text, **fields) for text in texts]


def report(of: list[JobPromptDocument], images: Images, **options: object) -> PreviewReport:
    chosen = {"floor": 0.1, "failed": {}, "reading": Reading(), **options}
    return preview(ShownSource(of, images), **chosen)


def found(result: PreviewReport, code: str) -> list[PromptFinding]:
    return [finding for finding in result.findings if finding.code == code]


def box(prompt: int, score: float, *, width: int = 10) -> ShownInstance:
    return rectangle(prompt, (0, 0, width, 10), score)


def test_a_prompt_is_counted_from_its_threshold_on_and_its_scores_are_all_shown() -> None:
    images = [[box(0, 0.9), box(0, 0.5, width=30), box(0, 0.2)], [box(0, 0.49)], []]
    (circle,) = report(prompts("red circle"), images).prompts
    assert (circle.threshold, circle.instances, circle.images) == (0.5, 2, 1)
    assert circle.best_score == 0.9
    assert circle.class_name == "red circle"
    assert {place: count for place, count in enumerate(circle.scores) if count} == {
        4: 1,
        9: 1,
        10: 1,
        18: 1,
    }
    assert circle.mean_area_share == pytest.approx(0.02)
    assert circle.median_area_share == pytest.approx(0.01, rel=0.01)


def test_a_prompts_own_threshold_is_in_force() -> None:
    of = [JobPromptDocument(text="star", class_name="deco", threshold=0.65)]
    (star,) = report(of, [[box(0, 0.65), box(0, 0.6)]]).prompts
    assert (star.threshold, star.class_name, star.instances) == (0.65, "deco", 1)
    assert star.scores[13] == 1  # the bin that starts at 0.65


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_the_ends_of_the_scores_have_their_bins(score: float) -> None:
    (only,) = report(prompts("star"), [[box(0, score)]]).prompts
    assert sum(only.scores) == 1
    assert only.scores[19 if score else 0] == 1


def test_prompts_that_images_bring_along_are_left_out() -> None:
    result = report(prompts("star"), [[box(0, 0.9), box(1, 0.9), box(2, 0.9)]])
    assert [prompt.instances for prompt in result.prompts] == [1]


def test_a_prompt_that_finds_nothing_is_told_its_best_score() -> None:
    result = report(prompts("circle", "dog"), [[box(0, 0.9), box(1, 0.31)], [box(0, 0.9)]])
    (nothing,) = found(result, "finds_nothing")
    assert (nothing.prompt_index, nothing.severity) == (1, Severity.WARNING)
    assert "Nothing in 2 images reaches its threshold of 0.5" in nothing.message
    assert "best score is 0.31" in nothing.message
    assert "set its threshold" not in nothing.message


def test_a_prompt_without_any_candidate_is_told_the_floor() -> None:
    (nothing,) = found(report(prompts("dog"), [[]]), "finds_nothing")
    assert "floor of 0.1" in nothing.message


def test_where_much_is_just_below_the_threshold_a_lower_one_is_suggested() -> None:
    scores = [0.48, 0.44, 0.43, 0.42, 0.31, 0.2]
    (nothing,) = found(
        report(prompts("dog"), [[box(0, score)] for score in scores]), "finds_nothing"
    )
    assert "in 5 images something comes close" in nothing.message
    assert "set its threshold to 0.4." in nothing.message  # 4 of the 5 would count


def test_of_no_image_nothing_is_said() -> None:
    result = report(prompts("dog"), [], failed={"not_found": 3})
    assert result.findings == []
    assert (result.images, result.failed) == (0, {"not_found": 3})


def test_one_object_under_two_classes_is_a_warning_with_ways_out() -> None:
    """Circles: three, one of them red."""
    small, large = (0, 0, 20, 20), (50, 50, 90, 90)
    images = [
        [rectangle(0, small), rectangle(1, small), rectangle(0, large)],
        [rectangle(0, large)],
    ]
    (overlap,) = found(report(prompts("circle", "red circle"), images), "overlaps")
    assert (overlap.prompt_index, overlap.other_prompt_index) == (1, 0)
    assert overlap.severity == Severity.WARNING
    assert overlap.message.startswith("100 % of its pixels are “circle” too, mostly")
    assert "nms_across" in overlap.message
    assert "exclusive" in overlap.message


def test_one_object_twice_in_a_class_is_a_hint() -> None:
    of = prompts("hard hat", "helmet", class_name="head")
    images = [[rectangle(0, (0, 0, 20, 20)), rectangle(1, (0, 0, 20, 19))]]
    (overlap,) = found(report(of, images), "overlaps")
    assert (overlap.prompt_index, overlap.other_prompt_index) == (0, 1)
    assert overlap.severity == Severity.HINT
    assert "95 % of its pixels are “helmet” too, and 100 % the other way round" in overlap.message
    assert "nms_within" in overlap.message


def test_a_part_of_something_else_is_no_more_than_a_hint() -> None:
    images = [[rectangle(0, (10, 10, 20, 20)), rectangle(1, (0, 0, 40, 90))]]
    (overlap,) = found(report(prompts("helmet", "person"), images), "overlaps")
    assert (overlap.prompt_index, overlap.severity) == (0, Severity.HINT)
    assert "may be a part" in overlap.message


def test_what_does_not_count_overlaps_with_nothing() -> None:
    images = [[rectangle(0, (0, 0, 20, 20), 0.4), rectangle(1, (0, 0, 20, 20), 0.9)]]
    assert not found(report(prompts("circle", "red circle"), images), "overlaps")


def test_prompts_of_the_same_text_are_not_told_twice_that_they_overlap() -> None:
    same = (0, 0, 20, 20)
    images = [[rectangle(prompt, same) for prompt in range(3)]]
    result = report(prompts("red circle", "Red  Circle", "RED CIRCLE"), images)
    assert len(found(result, "duplicate")) == 2
    assert not found(result, "overlaps")


def test_nearness_to_the_networks_limit_is_a_warning_from_one_image_in_twenty_on() -> None:
    images = [[box(0, 0.9), box(1, 0.9)] for _ in range(40)]
    saturated = {4: (0, 1), 7: (0, 1), 39: (0,)}
    source = ShownSource(prompts("brick", "tile"), images, saturated=saturated)
    result = preview(source, floor=0.1, failed={}, reading=Reading(queries=200))
    (full,) = found(result, "saturated")
    assert (full.prompt_index, full.severity) == (0, Severity.WARNING)
    assert full.message.startswith("In 3 images of 40 it comes near 200 instances")


def test_masks_of_the_whole_image_in_most_images_are_a_hint() -> None:
    whole, part = (0, 0, 100, 98), (0, 0, 50, 98)
    images = [[rectangle(0, whole), rectangle(1, part)]] * 2 + [[rectangle(0, part)], []]
    (fills,) = found(report(prompts("sky", "tree"), images), "fills_image")
    assert (fills.prompt_index, fills.severity) == (0, Severity.HINT)
    assert "In 2 of the 3 images" in fills.message


def test_lint_of_the_texts_is_part_of_it_and_warnings_come_first() -> None:
    result = report(prompts("cats and dogs", "no cat"), [[box(0, 0.9)]])
    assert [(one.severity, one.code) for one in result.findings] == [
        ("warning", "negation"),
        ("warning", "finds_nothing"),
        ("hint", "several_things"),
    ]


def test_a_report_goes_through_json_unharmed() -> None:
    slices = [SampledSlice(8, "w", 0.0, time) for time in (10.0, 14.0, 18.0)]
    result = report(
        prompts("circle", "dog"),
        [[box(0, 0.9)]],
        failed={"truncated": 1},
        estimate=estimate(slices, images_total=5000),
    )
    assert result.estimate is not None
    assert PreviewReport.model_validate_json(result.model_dump_json()) == result


@dataclass(frozen=True)
class Repeated(ShownSource):
    times: int = 1

    def shown(self) -> Iterator[ShownImage]:
        for _ in range(self.times):
            yield from super().shown()


def peak_bytes(times: int) -> int:
    of = prompts(*(f"thing {number}" for number in range(16)))
    images = [[rectangle(p, (p, 0, p + 30, 30), 0.9) for p in range(16)]]
    source = Repeated(of, images, times=times)
    tracemalloc.start()
    try:
        preview(source, floor=0.1, failed={}, reading=Reading())
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_images() -> None:
    peak_bytes(2)  # what is imported and cached
    assert peak_bytes(40) < 1.1 * peak_bytes(5) + 20_000
