"""What an evaluation is asked for, and its report.

Figures are parts of one; None is what cannot be had: a mean of nothing, a share of none. How they
are defined is in docs/reference/evaluation.md.
"""

from pydantic import BaseModel, ConfigDict, Field

from domain.documents import Document
from domain.exports import ClassName, ExportInfo, Score
from domain.thresholds import DEFAULT_MIN_SCORE

MAX_WORST_IMAGES = 24


class EvaluationOptions(Document):
    """How a result is compared with the truth."""

    mapping: dict[ClassName, ClassName | None] = Field(
        default_factory=dict,
        max_length=1000,
        description="Classes of the truth's categories where names differ, null leaves one out",
    )
    min_score: Score = Field(
        DEFAULT_MIN_SCORE, description="From which an instance counts for cgF1, pmF1 and IL_MCC"
    )
    suggest: bool = Field(
        True, description="Whether to look for thresholds; the worst images go by them"
    )


class _Reported(BaseModel):
    model_config = ConfigDict(frozen=True)


class Listed(_Reported):
    """How many names there are, and the first of them."""

    count: int = 0
    first: list[str] = Field(default_factory=list)


class EvaluatedImages(_Reported):
    """Each of the truth's images counts in one of `evaluated`, `sizes_differ`, `failed` and
    `not_in_job`; each of the job's in one of `evaluated`, `sizes_differ`, `ambiguous` and
    `not_in_truth`, unless it failed."""

    evaluated: int
    by_end_of_path: Listed = Field(
        description="Of those evaluated, whose names are not equal, as `job's = truth's`"
    )
    sizes_differ: Listed = Field(description="Perhaps drawn on images that EXIF had not turned")
    failed: Listed = Field(description="In the truth, and failed in the job")
    not_in_job: Listed = Field(description="In the truth, where no single one of the job fits")
    ambiguous: Listed = Field(description="In the job, where no single one of the truth fits")
    not_in_truth: Listed = Field(description="In the job only")


class EvaluatedCategories(_Reported):
    matched: dict[str, str] = Field(description="The truth's categories and their classes")
    left_out: list[str] = Field(description="The truth's categories that the mapping leaves out")
    unmatched: dict[str, int] = Field(
        description="The truth's categories that fit no class, and how many annotations they have"
    )
    without_truth: list[str] = Field(
        description="Classes that no category fits: they have no figures"
    )


class PrecisionFigures(_Reported):
    """COCO's mask AP and AR; up to 100 instances of a class in an image."""

    ap: float | None = Field(description="Mean over IoU 0.50:0.05:0.95")
    ap50: float | None
    ap75: float | None
    ap_small: float | None = Field(description="Of truth below 32 x 32 pixels")
    ap_medium: float | None
    ap_large: float | None = Field(description="Of truth from 96 x 96 pixels")
    ar100: float | None
    ar_small: float | None
    ar_medium: float | None
    ar_large: float | None


class ConceptFigures(_Reported):
    """SAM 3's figures. A data point is an image and a prompt."""

    cg_f1: float | None = Field(description="pm_f1 * il_mcc")
    pm_f1: float | None = Field(description="Mean over IoU 0.50:0.05:0.95")
    il_mcc: float | None
    cg_f1_50: float | None = Field(description="At IoU 0.5")
    pm_f1_50: float | None = Field(description="At IoU 0.5")
    present_found: int = Field(description="Data points with truth and with instances")
    present_missed: int
    absent_found: int
    absent_left: int


class ThresholdFigures(_Reported):
    """At IoU 0.5."""

    true_positives: int
    false_positives: int
    misses: int
    precision: float | None
    recall: float | None
    f1: float | None


class ThresholdPoint(_Reported):
    threshold: float
    precision: float
    recall: float


class Suggestion(_Reported):
    threshold: float
    figures: ThresholdFigures


class ScoreHistogram(_Reported):
    """Instances in bins of one width from 0 to 1, the last with 1."""

    true: list[int]
    false: list[int]


class ClassFigures(_Reported):
    class_name: str
    truth: int = Field(description="Annotations other than crowds, in the evaluated images")
    crowds: int
    instances: int
    precision: PrecisionFigures


class PromptFigures(_Reported):
    """A prompt of the job whose class the truth has."""

    prompt_index: int
    text: str
    class_name: str
    truth: int
    instances: int
    concept: ConceptFigures
    at_min_score: ThresholdFigures
    suggestion: Suggestion | None = Field(
        description="None without truth, without a match, or where it was not asked for"
    )
    threshold: float = Field(description="The suggested one, else `min_score`")
    histogram: ScoreHistogram
    curve: list[ThresholdPoint] = Field(description="From the highest threshold down")


class OverallFigures(_Reported):
    """AP and AR are means over the classes with truth, the others are of all prompts' data points
    and instances together."""

    precision: PrecisionFigures
    concept: ConceptFigures
    at_min_score: ThresholdFigures
    at_thresholds: ThresholdFigures = Field(description="Each prompt at its own `threshold`")


class PromptErrors(_Reported):
    prompt_index: int
    false_positives: int
    misses: int


class WorstImage(_Reported):
    image_index: int
    image: str
    false_positives: int
    misses: int
    prompts: list[PromptErrors] = Field(description="Those with errors, most errors first")


class EvaluationReport(_Reported):
    source: ExportInfo
    options: EvaluationOptions
    images: EvaluatedImages
    categories: EvaluatedCategories
    overall: OverallFigures
    classes: list[ClassFigures]
    prompts: list[PromptFigures]
    worst: list[WorstImage] = Field(
        description="With most errors at IoU 0.5 and the prompts' thresholds first; of as many the "
        "earlier in the job"
    )
