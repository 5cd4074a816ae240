"""The page of an evaluation: figures, thresholds, and the worst images beside their truth."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from domain.evaluation.compared_images import ComparedImage, JudgedMask, Verdict
from domain.evaluation.documents import EvaluationReport, Listed, PromptFigures, WorstImage
from domain.overlays import Colour, ColouredMask, overlay
from workers.reports.charts import Line, Mark, Series, curve, histogram
from workers.reports.rendering import plural, render

_LONGEST_SIDE = 480  # pixels of a picture
_FEW = 20  # annotations of a prompt whose threshold may suit these alone
_NAMES_SHOWN = 3
# Blue and orange, as in the charts: they stay apart for the colour-blind too.
_COLOURS: dict[Verdict, Colour] = {
    Verdict.IGNORED: (178, 184, 194),
    Verdict.RIGHT: (64, 140, 255),
    Verdict.WRONG: (255, 112, 16),
}

ReadImage = Callable[[ComparedImage], bytes | None]
"""The bytes of an image's file; None where it cannot be had."""


@dataclass(frozen=True, slots=True)
class ComparedPicture:
    """One of the worst images as JPEG, with the truth and with what was found."""

    image_index: int
    truth: bytes
    found: bytes


@dataclass(frozen=True, slots=True)
class _Finding:
    severity: str
    title: str
    message: str


def draw_compared(
    images: Iterable[ComparedImage], read_image: ReadImage
) -> Iterator[ComparedPicture]:
    """What is right below what is wrong, crowds below both."""
    for image in images:
        content = read_image(image)
        yield ComparedPicture(
            image.image_index, _drawn(content, image.truth), _drawn(content, image.found)
        )


def _drawn(content: bytes | None, masks: Sequence[JudgedMask]) -> bytes:
    order = list(_COLOURS)
    coloured = [
        ColouredMask(one.mask, _COLOURS[one.verdict])
        for one in sorted(masks, key=lambda one: order.index(one.verdict))
    ]
    return overlay(content, coloured, longest_side=_LONGEST_SIDE)


def evaluation_page(report: EvaluationReport, pictures: Iterable[ComparedPicture]) -> str:
    """`pictures` may be of some of the report's worst images only, in any order."""
    drawn = {picture.image_index: picture for picture in pictures}
    findings = [*_image_findings(report), *_category_findings(report), *_figure_findings(report)]
    return render(
        "evaluation.html",
        report=report,
        findings=sorted(findings, key=lambda one: one.severity != "warning"),
        prompts=[(one, _histogram(one), _curve(one)) for one in report.prompts],
        worst=[
            (image, drawn[image.image_index], _errors(image, report))
            for image in report.worst
            if image.image_index in drawn
        ],
        colours=_COLOURS,
    )


def _histogram(prompt: PromptFigures) -> Markup:
    found = prompt.histogram
    return histogram(
        [Series("right", found.true), Series("wrong", found.false)],
        title=f"Scores of right and wrong instances of {prompt.text}",
        threshold=prompt.threshold,
    )


def _curve(prompt: PromptFigures) -> Markup | None:
    """From a recall of 0 on, which has the precision of the highest scores."""
    if not prompt.curve:
        return None
    points = [(0.0, prompt.curve[0].precision), *((p.recall, p.precision) for p in prompt.curve)]
    at = prompt.suggestion.figures if prompt.suggestion else prompt.at_min_score
    mark = None
    if at.precision is not None and at.recall is not None:
        mark = Mark(f"threshold {prompt.threshold:g}", at.recall, at.precision)
    return curve(
        [Line(prompt.text, points)],
        title=f"Precision by recall of {prompt.text}",
        x_label="recall",
        y_label="precision",
        mark=mark,
    )


def _errors(image: WorstImage, report: EvaluationReport) -> list[tuple[str, str]]:
    """Prompts with what is wrong, in words."""
    texts = {prompt.prompt_index: prompt.text for prompt in report.prompts}
    counts = {
        one.prompt_index: ((one.false_positives, "wrong"), (one.misses, "missed"))
        for one in image.prompts
    }
    return [
        (texts[index], ", ".join(f"{number:,} {word}" for number, word in told if number))
        for index, told in counts.items()
    ]


def _image_findings(report: EvaluationReport) -> Iterator[_Finding]:
    images = report.images
    if not images.evaluated:
        yield _Finding("warning", "No image is compared", "None of the truth's is in the result.")
    for severity, listed, title, message in (
        ("warning", images.not_in_job, "of the truth not in the job", "Not compared"),
        ("warning", images.failed, "of the truth failed in the job", "Not compared"),
        ("warning", images.ambiguous, "with a name that fits several", "Not compared"),
        (
            "warning",
            images.sizes_differ,
            "of another size than the truth says",
            "Not compared; perhaps the truth was drawn on images that EXIF had not turned",
        ),
        (
            "hint",
            images.by_end_of_path,
            "compared by the end of the path",
            "Taken for the same, as the job has them and as the truth has them",
        ),
    ):
        if listed.count:
            yield _Finding(
                severity, f"{plural(listed.count, 'image')} {title}", f"{message}: {_said(listed)}"
            )


def _said(listed: Listed) -> str:
    shown = listed.first[:_NAMES_SHOWN]
    more = listed.count - len(shown)
    return ", ".join(shown) + (f" and {more:,} more." if more else ".")


def _category_findings(report: EvaluationReport) -> Iterator[_Finding]:
    categories = report.categories
    if categories.unmatched:
        told = (f"{name} ({n:,})" for name, n in categories.unmatched.items())
        yield _Finding(
            "warning",
            f"{plural(len(categories.unmatched), 'category', 'categories')} of the truth"
            " with the name of no class",
            f"Their annotations are passed over: {', '.join(told)}. Map them to classes, or leave"
            " them out.",
        )
    if categories.without_truth:
        yield _Finding(
            "warning",
            f"{plural(len(categories.without_truth), 'class', 'classes')} without truth",
            f"Not evaluated: {', '.join(categories.without_truth)}.",
        )


def _figure_findings(report: EvaluationReport) -> Iterator[_Finding]:
    if report.source.partial:
        yield _Finding(
            "hint", "The job still ran", "These are the figures of what was labelled by then."
        )
    few = [one.text for one in report.prompts if one.suggestion and one.truth < _FEW]
    if few:
        yield _Finding(
            "hint",
            f"{plural(len(few), 'threshold')} from few annotations",
            f"Less than {_FEW} annotations may suit another threshold by chance: {', '.join(few)}.",
        )
    everywhere = [one.text for one in report.prompts if one.truth and one.concept.il_mcc is None]
    if everywhere:
        yield _Finding(
            "hint",
            f"No IL_MCC and cgF1 of {plural(len(everywhere), 'prompt')}",
            "These need images without the object too; the truth has it in all of them: "
            f"{', '.join(everywhere)}.",
        )
