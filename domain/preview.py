"""What a sample of a job's images says about its prompts, before the job runs on all of them."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from domain.estimate import Estimate
from domain.exports import ExportSource, ShownImage, ShownInstance
from domain.findings import FindingCode, PromptFinding, Severity, by_weight, quoted
from domain.prompt_lint import lint
from domain.prompt_overlaps import PromptOverlaps
from domain.prompt_tally import PromptTally
from domain.prompts import ConceptPrompt
from domain.thresholds import effective_threshold

_OVERLAPS_ABOVE = 0.5  # of a prompt's pixels
_SAME_OBJECTS_ABOVE = 0.5  # of its instances
_MANY_IMAGES = 0.05  # of the sample
_MOST_IMAGES = 0.5  # of those in which a prompt finds something


class PromptPreview(BaseModel):
    """An instance counts from the threshold on; `scores` has all above the job's floor."""

    model_config = ConfigDict(frozen=True)

    prompt_index: int
    text: str
    class_name: str = Field(description="Of its instances: the text where none was given")
    threshold: float = Field(description="In force: the prompt's own, 0.5 without one")
    instances: int = Field(description="That count")
    images: int = Field(description="With an instance that counts")
    best_score: float | None = Field(description="Also below the threshold; null without any")
    scores: list[int] = Field(description="Instances in bins of 0.05, from 0 to 1")
    mean_area_share: float | None = Field(description="Of the image, of instances that count")
    median_area_share: float | None = Field(description="The same, within 1 %")


class PreviewReport(BaseModel):
    model_config = ConfigDict(frozen=True)

    job_id: str
    model: str
    images: int = Field(description="Labelled ones of the sample")
    failed: dict[str, int] = Field(description="Failed ones, by error code")
    floor: float = Field(description="Score from which instances are kept at all")
    prompts: list[PromptPreview]
    findings: list[PromptFinding] = Field(description="Warnings first")
    estimate: Estimate | None = Field(description="Of the run on all images; null without a slice")


@dataclass(frozen=True, slots=True)
class Reading:
    """How the network reads, as a worker published it; None where none has."""

    tokenizer_json: str | None = None
    text_tokens: int | None = None
    queries: int | None = None  # instances per prompt and image that it can return


def preview(
    source: ExportSource,
    *,
    floor: float,
    failed: Mapping[str, int],
    reading: Reading,
    estimate: Estimate | None = None,
    step: Callable[[], None] = lambda: None,
) -> PreviewReport:
    """`source` is the sample's result with all its instances: a view from the job's floor on.
    `failed` are images by error code. `step` is called several times an image; what it raises ends
    this.

    Prompts that images bring along are left out. Memory grows with the prompts, not with the
    images; 64 prompts with 10 instances each take 70 ms an image, most of them for overlaps.
    """
    prompts = [document.to_prompt() for document in source.info.prompts]
    sample = _Sample(prompts, floor, reading.queries, step)
    for image in source.shown():
        sample.add(image)
    texts = lint(prompts, reading.tokenizer_json, text_tokens=reading.text_tokens)
    duplicates = {one.prompt_index for one in texts if one.code == FindingCode.DUPLICATE}
    return PreviewReport(
        job_id=source.info.job_id,
        model=source.info.model,
        images=sample.images,
        failed=dict(failed),
        floor=floor,
        prompts=sample.previews(),
        findings=by_weight([*texts, *sample.findings(), *sample.overlapping(duplicates)]),
        estimate=estimate,
    )


class _Sample:
    def __init__(
        self,
        prompts: Sequence[ConceptPrompt],
        floor: float,
        queries: int | None,
        step: Callable[[], None],
    ) -> None:
        self.images = 0
        self._step = step
        self._prompts = prompts
        self._floor, self._queries = floor, queries
        self._saturated: Counter[int] = Counter()  # images by prompt, near the number of queries
        self._tallies = [PromptTally(effective_threshold(p.threshold, None)) for p in prompts]
        self._overlaps = PromptOverlaps(len(prompts))

    def add(self, image: ShownImage) -> None:
        self.images += 1
        self._saturated.update(image.saturated_prompts)
        by_prompt: dict[int, list[ShownInstance]] = {}
        for one in image.instances:
            by_prompt.setdefault(one.prompt_index, []).append(one)
        counting = []
        for index, own in by_prompt.items():
            if index < len(self._tallies):
                counting += self._tallies[index].add(own, image_area=image.width * image.height)
        self._overlaps.add(counting, step=self._step)

    def previews(self) -> list[PromptPreview]:
        return [
            PromptPreview(
                prompt_index=index,
                text=prompt.text or "",
                class_name=prompt.category,
                threshold=tally.threshold,
                instances=tally.instances,
                images=tally.images,
                best_score=tally.best_score,
                scores=tally.scores.tolist(),
                mean_area_share=tally.mean_area_share,
                median_area_share=tally.median_area_share,
            )
            for index, (prompt, tally) in enumerate(zip(self._prompts, self._tallies, strict=True))
        ]

    def findings(self) -> Iterator[PromptFinding]:
        for index, tally in enumerate(self._tallies):
            if self.images and not tally.images:
                yield _warning(FindingCode.FINDS_NOTHING, index, self._nothing(tally))
            if self._saturated[index] > _MANY_IMAGES * self.images:
                yield _warning(FindingCode.SATURATED, index, self._full(index))
            if tally.images and tally.whole_images > _MOST_IMAGES * tally.images:
                yield _hint(FindingCode.FILLS_IMAGE, index, _whole(tally))

    def _nothing(self, tally: PromptTally) -> str:
        if tally.best_score is None:
            return (
                f"Nothing in {_images(self.images)} reaches even the job's floor of "
                f"{self._floor:g}. Try another word for it; if it is rare, sample more images."
            )
        found = (
            f"Nothing in {_images(self.images)} reaches its threshold of {tally.threshold:g}; the "
            f"best score is {tally.best_score:.2f}. "
        )
        if tally.near_images <= max(1, _MANY_IMAGES * self.images):
            return found + "Try another word for it; if it is rare, sample more images."
        return found + (
            f"But in {_images(tally.near_images)} something comes close (outlines without a "
            f"tint in the pictures): if that is right, set its threshold to "
            f"{tally.median_near_score:g}."
        )

    def _full(self, index: int) -> str:
        most = "the most instances" if self._queries is None else f"{self._queries} instances, all"
        return (
            f"In {_images(self._saturated[index])} of {self.images} it comes near {most} that the "
            "network can return for a prompt, so others may be missing. Ask for something "
            "narrower, or cut the images into parts before they are labelled."
        )

    def overlapping(self, duplicates: Set[int]) -> Iterator[PromptFinding]:
        """Each pair once; not those of duplicates, which have their finding."""
        pairs = list(self._overlaps.pairs(above=_OVERLAPS_ABOVE))
        for index, other in pairs:
            is_told = (other, index) in pairs and other < index
            if not is_told and not duplicates & {index, other}:
                yield self._overlapping(index, other)

    def _overlapping(self, index: int, other: int) -> PromptFinding:
        one, two = self._prompts[index], self._prompts[other]
        overlap, back = self._overlaps.of(index, other), self._overlaps.of(other, index)
        shared = f"{_percent(overlap.pixels)} of its pixels are {quoted(two.text or '')} too"
        if back.pixels > _OVERLAPS_ABOVE:
            shared += f", and {_percent(back.pixels)} the other way round"
        severity = Severity.HINT
        if overlap.instances <= _SAME_OBJECTS_ABOVE:
            advice = (
                "but as other objects, of which it may be a part. Nothing to do if that is meant."
            )
        elif one.category == two.category:
            advice = (
                f"mostly as the same objects: these are found twice as {quoted(one.category)}. "
                "Drop one of the prompts, or export with nms_within."
            )
        else:
            severity = Severity.WARNING
            advice = (
                f"mostly as the same objects: these become {quoted(one.category)} and "
                f"{quoted(two.category)}. Drop one of the prompts, or let the better score win: "
                "export with nms_across, or with both as exclusive classes."
            )
        return PromptFinding(
            severity=severity,
            code=FindingCode.OVERLAPS,
            prompt_index=index,
            other_prompt_index=other,
            message=f"{shared}, {advice}",
        )


def _whole(tally: PromptTally) -> str:
    return (
        f"In {tally.whole_images} of the {_images(tally.images)} where it finds something, one "
        "mask covers nearly the whole image: it may name the scene and not a thing in it."
    )


def _images(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _warning(code: FindingCode, index: int, message: str) -> PromptFinding:
    return PromptFinding(severity=Severity.WARNING, code=code, prompt_index=index, message=message)


def _hint(code: FindingCode, index: int, message: str) -> PromptFinding:
    return PromptFinding(severity=Severity.HINT, code=code, prompt_index=index, message=message)
