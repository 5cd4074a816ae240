"""A workflow, run on the images of one request."""

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from domain.errors import ImageError
from domain.interactive import WorkflowRequest
from domain.prompts import VISUAL_TEXT, ConceptPrompt
from domain.thresholds import reaches
from domain.workflows.blocks import (
    AbsoluteStaticCrop,
    Block,
    DynamicCrop,
    RelativeStaticCrop,
    Sam3,
    Visualization,
)
from domain.workflows.compilation import compile_workflow
from domain.workflows.images import image_name
from domain.workflows.plan import Plan, PlannedOutput, Step, Value
from domain.workflows.selectors import EVERYTHING, FromInput, FromStep
from workers.interactive.allowance import Allowance, Canvases, ImageCanvases
from workers.interactive.crops import ObjectCrop, absolute_crop, dynamic_crops, relative_crop
from workers.interactive.detections import Detections, as_detections
from workers.interactive.drawing import draw
from workers.interactive.nms import suppress
from workers.interactive.pictures import Picture, SentPicture
from workers.interactive.segmenter import SegmentedMask, Segmenter

_IMAGES_AT_ONCE = 4  # so that the segmenter can run some together; each has its pixels in memory
_DRAWINGS_AT_ONCE = 2  # of the largest image: a drawing is made on a copy of the one before

Result = Picture | Detections | None
Results = Mapping[str, Result]  # what a step gives, by the names of its outputs; empty: nothing
CoordinatesSystem = Literal["own", "parent"]
Nested = Any  # lists in lists of Result or Results, as deep as the lineage is long


def run_workflow(
    request: WorkflowRequest,
    *,
    files: Sequence[bytes],
    owner: str,
    segmenter: Segmenter,
    max_pixels: int,
    deadline: float,
) -> dict[str, Any]:
    """The body of the answer: an element of `outputs` for each image of the batch, in order.

    Raises WorkflowError: the workflow does not compile, or an image is none; whichever image it
    is, there is no answer for the others then; it runs more blocks, draws on more pixels or says
    more than domain.workflows.limits allow. Raises TimeoutError after `deadline`, a time of
    time.monotonic().
    """
    plan = compile_workflow(request.specification, request.inputs)
    allowance, canvases = Allowance(deadline), Canvases(_DRAWINGS_AT_ONCE * max_pixels)

    def run(place: int) -> dict[str, Any]:
        images = _pictures(plan, request.inputs, files, place=place, max_pixels=max_pixels)
        with canvases.of(place) as own:
            engine = _Engine(segmenter, owner, allowance, own)
            return _run_image(plan, images, engine, excluded=request.excluded_fields)

    with ThreadPoolExecutor(min(plan.batch_size, _IMAGES_AT_ONCE), "workflow") as pool:
        outputs = list(pool.map(run, range(plan.batch_size)))
    return {"outputs": outputs[: plan.answers], "profiler_trace": []}


def _pictures(
    plan: Plan, inputs: Mapping[str, Any], files: Sequence[bytes], *, place: int, max_pixels: int
) -> dict[str, Picture]:
    """The image inputs at one place of the batch; one image stands for all."""
    pictures: dict[str, Picture] = {}
    for name in plan.images:
        given = inputs[name]
        at = min(place, len(given) - 1) if isinstance(given, list) else None
        file = files[given if at is None else given[at]]
        pictures[name] = SentPicture(image_name(name, at), file, max_pixels=max_pixels)
    return pictures


def _run_image(
    plan: Plan, images: Mapping[str, Picture], engine: "_Engine", *, excluded: Collection[str]
) -> dict[str, Any]:
    """What a step gives is shown at once and forgotten when no later step takes it: drawings of
    large images are large."""
    outputs = [output for output in plan.outputs if output.name not in excluded]
    done: dict[str, Nested] = {}
    shown: dict[str, Any] = {}
    for place, step in enumerate(plan.steps):
        done[step.name] = _run_step(step, images, done, engine=engine)
        for output in outputs:
            if isinstance(output.source, FromStep) and output.source.step == step.name:
                shown[output.name] = _output(output, images, done, allowance=engine.allowance)
        later = _taken_by(plan.steps[place + 1 :])
        done = {name: nested for name, nested in done.items() if name in later}
    for picture in images.values():
        _ = picture.frame  # what no step has looked at must be an image all the same
    for output in outputs:
        if not isinstance(output.source, FromStep):
            shown[output.name] = _output(output, images, done, allowance=engine.allowance)
    return {output.name: shown[output.name] for output in outputs}


def _taken_by(steps: Sequence[Step]) -> set[str]:
    sources = [source for step in steps for source in (step.image, step.predictions)]
    return {source.step for source in sources if isinstance(source, FromStep)}


# -- steps ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Engine:
    segmenter: Segmenter
    owner: str
    allowance: Allowance
    canvases: ImageCanvases

    def find(self, block: Sam3, picture: Picture) -> Detections:
        texts = block.class_names or (VISUAL_TEXT,)
        deadline = self.allowance.deadline
        try:
            masks = self.segmenter.concepts(
                picture.seen(self.segmenter, owner=self.owner, deadline=deadline),
                [ConceptPrompt(text) for text in texts],
                floor=min(block.thresholds),
                deadline=deadline,
            )
        except ImageError as error:
            raise picture.refusal(error) from error
        chosen = _chosen(masks, block, deadline=deadline)
        return as_detections(chosen, picture.frame, block=block)


def _chosen(masks: Sequence[SegmentedMask], block: Sam3, *, deadline: float) -> list[SegmentedMask]:
    kept = [mask for mask in masks if reaches(mask.score, block.thresholds[mask.prompt])]
    if block.max_overlap is None:
        return kept
    return suppress(kept, iou_threshold=block.max_overlap, deadline=deadline)


def _run_step(
    step: Step, images: Mapping[str, Picture], done: Mapping[str, Nested], *, engine: _Engine
) -> Nested:
    """What has no image, as it lay beside the one that it was to be cut from, gives nothing."""
    depth, block = len(step.lineage), step.block
    takes = [_taken(step.image, images, done, depth=depth)]
    if step.predictions is not None:
        takes.append(_taken(step.predictions, images, done, depth=depth))

    def run(*values: Any) -> Results | list[Results]:
        if None in values:
            return [] if block.OPENS else {}
        engine.allowance.use_blocks()
        return _run_block(block, *values, engine=engine)

    return _spread(run, depth, takes)


def _taken(
    source: FromInput | FromStep,
    images: Mapping[str, Picture],
    done: Mapping[str, Nested],
    *,
    depth: int,
) -> Nested:
    if isinstance(source, FromInput):
        return images[source.name]
    return _each(lambda results: results.get(source.output), done[source.step], depth=depth)


def _run_block(
    block: Block, picture: Picture, detections: Detections | None = None, *, engine: _Engine
) -> Results | list[Results]:
    match block:
        case Sam3():
            return {"predictions": engine.find(block, picture)}
        case AbsoluteStaticCrop():
            return {"crops": absolute_crop(block, picture)}
        case RelativeStaticCrop():
            return {"crops": relative_crop(block, picture)}
    assert detections is not None  # all other blocks take some
    match block:
        case Visualization():
            return {"image": draw(block, picture, detections, canvases=engine.canvases)}
        case DynamicCrop():
            engine.allowance.use_blocks(len(detections.found))
            crops = dynamic_crops(block, picture, detections, canvases=engine.canvases)
            return [_crop_results(crop) for crop in crops]
    raise TypeError(f"{type(block).__name__} cannot be run")


def _crop_results(crop: ObjectCrop | None) -> Results:
    return {"crops": crop.picture, "predictions": crop.detections} if crop else {}


# -- lists in lists -------------------------------------------------------------------------------


def _spread(run: Callable[..., Nested], depth: int, values: Sequence[Nested]) -> Nested:
    """`run` with what lies at the same place in each of `values`."""
    if not depth:
        return run(*values)
    return [_spread(run, depth - 1, inner) for inner in zip(*values, strict=True)]


def _each(change: Callable[[Any], Any], values: Nested, *, depth: int) -> Nested:
    return _spread(change, depth, [values])


# -- outputs --------------------------------------------------------------------------------------


def _output(
    output: PlannedOutput,
    images: Mapping[str, Picture],
    done: Mapping[str, Nested],
    *,
    allowance: Allowance,
) -> Any:
    system = output.coordinates_system
    match output.source:
        case Value(value):
            return allowance.answer(value)
        case FromInput(name):
            return allowance.answer(images[name].as_json())
        case FromStep(step, name):
            return _each(
                lambda results: _shown(results, name, system=system, allowance=allowance),
                done[step],
                depth=len(output.lineage),
            )


def _shown(results: Results, name: str, *, system: CoordinatesSystem, allowance: Allowance) -> Any:
    def shown(result: Result) -> Any:
        if isinstance(result, Detections):
            return result.as_json(system, told=allowance.answer)
        return allowance.answer(result.as_json() if result else None)

    if name != EVERYTHING:
        return shown(results.get(name))
    return {key: shown(result) for key, result in results.items()} or None
