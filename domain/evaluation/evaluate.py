"""A result against the truth: one pass over its images, then the figures."""

from collections.abc import Callable, Iterable

from domain.evaluation.documents import (
    EvaluatedCategories,
    EvaluationOptions,
    EvaluationReport,
    PromptErrors,
    WorstImage,
)
from domain.evaluation.figures import Figures, overall
from domain.evaluation.measurements import Measurements
from domain.evaluation.pairing import Pairing, Pairs
from domain.evaluation.truth import Truth
from domain.evaluation.worst_images import worst_images
from domain.exports import ExportInfo, ExportSource


def evaluate(
    source: ExportSource,
    truth: Truth,
    *,
    options: EvaluationOptions,
    note: Callable[[], None],
    failed: Iterable[str] = (),
) -> EvaluationReport:
    """`source` shows all instances there are: its view has the job's floor as `min_score`.

    `note` is called for each image at least; what it raises ends the evaluation. `failed` are the
    names of the job's images that have no result, wanted after the others. Memory grows with the
    truth, and by some 50 bytes an instance.
    """
    info = source.info
    classes, prompts = _classes(info, truth), prompt_classes(info, truth)
    measurements = Measurements(classes, prompts, min_score=options.min_score)
    pairing = Pairing(truth)
    for image in source.shown():
        note()
        wanted = pairing.claim(image)
        if wanted is not None:
            measurements.add(image, wanted, note=note)
    pairs = pairing.pairs()
    figures = Figures(info, truth, pairs=pairs, measurements=measurements, options=options)
    of_classes = [figures.of_class(class_id) for class_id in classes]
    of_prompts = [figures.of_prompt(index, class_id) for index, class_id in prompts.items()]
    worst = worst_images([one.instances for one in of_prompts])
    return EvaluationReport(
        source=info,
        options=options,
        images=pairing.images(failed),
        categories=_categories(info, truth),
        overall=overall(of_classes, of_prompts),
        classes=[one.figures for one in of_classes],
        prompts=[one.figures for one in of_prompts],
        worst=[_worst_image(pairs, place, errors) for place, errors in worst.items()],
    )


def prompt_classes(info: ExportInfo, truth: Truth) -> dict[int, int]:
    """The class ids of those of the job's prompts whose classes the truth has."""
    ids = {info.classes[class_id]: class_id for class_id in _classes(info, truth)}
    categories = [prompt.to_prompt().category for prompt in info.prompts]
    names = [info.options.classes.get(category, category) for category in categories]
    return {index: ids[name] for index, name in enumerate(names) if name in ids}


def _classes(info: ExportInfo, truth: Truth) -> list[int]:
    matched = set(truth.matched.values())
    return [class_id for class_id, name in enumerate(info.classes) if name in matched]


def _categories(info: ExportInfo, truth: Truth) -> EvaluatedCategories:
    matched = set(truth.matched.values())
    return EvaluatedCategories(
        matched=dict(truth.matched),
        left_out=list(truth.left_out),
        unmatched=dict(truth.unmatched),
        without_truth=[name for name in info.classes if name not in matched],
    )


def _worst_image(pairs: Pairs, place: int, errors: list[PromptErrors]) -> WorstImage:
    return WorstImage(
        image_index=int(pairs.indexes[place]),
        image=pairs.names[place],
        false_positives=sum(one.false_positives for one in errors),
        misses=sum(one.misses for one in errors),
        prompts=errors,
    )
