"""The page of a preview: what stands out, what the run will take, each prompt, and pictures."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from domain.estimate import Estimate
from domain.exports import ExportSource, ShownImage, ShownInstance
from domain.findings import Severity
from domain.overlays import Colour, ColouredMask, class_colour, overlay
from domain.preview import PreviewReport, PromptPreview
from domain.prompt_tally import BINS, NEAR
from domain.thresholds import DEFAULT_MIN_SCORE, reaches
from workers.reports.charts import Series, histogram
from workers.reports.rendering import plural, render

MAX_PICTURES = 60
_LONGEST_SIDE = 480  # pixels of a picture
_FAILED_SHOWN = 12
_HINTS_SHOWN = 10  # the others are folded away
_CUT_ABOVE = 3  # times the highest bar of instances that count
_WORKERS = (1, 2, 4, 8)

ReadImage = Callable[[ShownImage], bytes | None]
"""The bytes of an image's file; None where it cannot be had."""


@dataclass(frozen=True, slots=True)
class CountedClass:
    name: str
    colour: Colour
    count: int


@dataclass(frozen=True, slots=True)
class Picture:
    """An image of the sample with its masks, `jpeg`, and how many there are of each class."""

    name: str
    jpeg: bytes
    classes: tuple[CountedClass, ...]


@dataclass(frozen=True, slots=True)
class FailedImage:
    name: str
    code: str
    message: str


def draw_pictures(
    source: ExportSource, report: PreviewReport, read_image: ReadImage, *, most: int = MAX_PICTURES
) -> Iterator[Picture]:
    """Of the images that show most, in their order; `source` is what `report` was made of.

    Instances that count are tinted. Of prompts that find nothing, what comes close is outlined.
    Prompts that images bring along count from 0.5 on.
    """
    looks = _Looks(source.info.classes, report)
    chosen = _chosen({image.image_index: looks.prompts(image) for image in source.shown()}, most)
    for image in source.shown():
        if image.image_index in chosen:
            yield looks.picture(image, read_image(image))


def preview_page(
    report: PreviewReport,
    pictures: Sequence[Picture],
    *,
    source: str,
    failed: Sequence[FailedImage] = (),
) -> str:
    """`source` says where the images come from. `failed` may be some of the failed images only:
    their numbers are the report's."""
    texts = [prompt.text for prompt in report.prompts]
    told = [(finding, finding.title(texts)) for finding in report.findings]
    hints = [pair for pair in told if pair[0].severity != Severity.WARNING]
    warnings = [pair for pair in told if pair[0].severity == Severity.WARNING]
    return render(
        "preview.html",
        report=report,
        source=source,
        failed_count=sum(report.failed.values()),
        instances=sum(prompt.instances for prompt in report.prompts),
        shown_findings=warnings + hints[:_HINTS_SHOWN],
        folded_findings=hints[_HINTS_SHOWN:],
        by_workers=_by_workers(report.estimate),
        prompts=[(prompt, _colour(report, prompt), _scores(prompt)) for prompt in report.prompts],
        pictures=pictures,
        failed=failed[:_FAILED_SHOWN],
    )


class _Looks:
    """What of an image is drawn, and how."""

    def __init__(self, classes: Sequence[str], report: PreviewReport) -> None:
        self._classes = classes
        self._thresholds = [prompt.threshold for prompt in report.prompts]
        self._finds_nothing = {one.prompt_index for one in report.prompts if not one.images}

    def prompts(self, image: ShownImage) -> frozenset[int]:
        """Those of which something is drawn."""
        return frozenset(
            one.prompt_index for one in image.instances if self._counts(one) or self._is_near(one)
        )

    def picture(self, image: ShownImage, content: bytes | None) -> Picture:
        counting = [one for one in image.instances if self._counts(one)]
        near = [one for one in image.instances if self._is_near(one)]
        masks = [ColouredMask(one.mask, class_colour(one.class_id)) for one in counting]
        masks += [ColouredMask(one.mask, class_colour(one.class_id), faint=True) for one in near]
        counts = Counter(one.class_id for one in counting)
        return Picture(
            image.image,
            overlay(content, masks, longest_side=_LONGEST_SIDE),
            tuple(
                CountedClass(self._classes[number], class_colour(number), counts[number])
                for number in sorted(counts)
            ),
        )

    def _threshold(self, one: ShownInstance) -> float:
        is_of_job = one.prompt_index < len(self._thresholds)
        return self._thresholds[one.prompt_index] if is_of_job else DEFAULT_MIN_SCORE

    def _counts(self, one: ShownInstance) -> bool:
        return reaches(one.score, self._threshold(one))

    def _is_near(self, one: ShownInstance) -> bool:
        finds_nothing = one.prompt_index in self._finds_nothing
        return finds_nothing and reaches(one.score, self._threshold(one) - NEAR)


def _chosen(prompts_of_images: dict[int, frozenset[int]], most: int) -> set[int]:
    """Each prompt in turn takes an image, the rarest first, and so does the lack of any."""
    groups: dict[int | None, list[int]] = {}
    for image in sorted(prompts_of_images, key=_shuffled):
        for prompt in prompts_of_images[image] or {None}:
            groups.setdefault(prompt, []).append(image)
    chosen: set[int] = set()
    turns = [iter(group) for group in sorted(groups.values(), key=len)]
    while turns and len(chosen) < most:
        turns = [turn for turn in turns if len(chosen) >= most or _takes(turn, chosen)]
    return chosen


def _takes(turn: Iterator[int], chosen: set[int]) -> bool:
    """Whether there was an image left to take."""
    for image in turn:
        if image not in chosen:
            chosen.add(image)
            return True
    return False


def _shuffled(image: int) -> int:
    """An order that is not the source's, where neighbours are alike, and the same each time."""
    return image * 2654435761 % 2**32  # Knuth's multiplicative hashing


def _colour(report: PreviewReport, prompt: PromptPreview) -> Colour:
    """Classes are numbered as their prompts come."""
    names = list(dict.fromkeys(one.class_name for one in report.prompts))
    return class_colour(names.index(prompt.class_name))


def _scores(prompt: PromptPreview) -> Markup:
    """There are far more candidates of low scores than instances that count: these decide."""
    counting = prompt.scores[int(prompt.threshold * BINS) :]
    return histogram(
        [Series("instances", prompt.scores)],
        title=f"Scores of {plural(sum(prompt.scores), 'instance')} of {prompt.text}",
        threshold=prompt.threshold,
        up_to=_CUT_ABOVE * max(counting) if any(counting) else None,
    )


def _by_workers(estimate: Estimate | None) -> list[tuple[int, float]]:
    """Numbers of workers, each with the seconds until all is done."""
    if estimate is None:
        return []
    alone = estimate.seconds * estimate.workers
    return [(workers, alone / workers) for workers in sorted({*_WORKERS, estimate.workers})]
