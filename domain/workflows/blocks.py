"""The blocks that steps are made of: their fields with defaults, and what they give.

A field takes a value or a `$inputs` selector; those of `TAKES` take selectors only.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, model_validator

from domain.workflows.limits import MAX_COLOURS, Name, Selector, at_most
from domain.workflows.values import (
    MAX_CLASSES,
    AnyColour,
    ClassMapping,
    ClassNames,
    Fraction,
    LineWidth,
    Pixels,
)


class Kind(StrEnum):
    IMAGE = "image"
    DETECTIONS = "instance segmentation prediction"


class Block(BaseModel):
    """`TAKES` has every name under which a field may stand. A block that `OPENS` gives a list of
    results for each image."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    TAKES: ClassVar[Mapping[str, Kind]] = {"image": Kind.IMAGE, "images": Kind.IMAGE}
    GIVES: ClassVar[Mapping[str, Kind]]
    OPENS: ClassVar[bool] = False

    name: Name
    type: str
    image: Annotated[Selector, Field(validation_alias=AliasChoices("images", "image"))]

    @classmethod
    def parameters(cls) -> set[str]:
        """The fields that take values."""
        return cls.model_fields.keys() - cls.TAKES.keys() - {"name", "type"}


class Sam3(Block):
    """Finds every instance of each class name; without class names, of the word "visual"."""

    GIVES: ClassVar[Mapping[str, Kind]] = {"predictions": Kind.DETECTIONS}

    model_id: Name = "sam3/sam3_final"
    class_names: ClassNames = Field(default=None, validate_default=True)

    @property
    def thresholds(self) -> tuple[float, ...]:
        """From which score on an instance counts; one for each class name, or one alone."""
        raise NotImplementedError

    @property
    def max_overlap(self) -> float | None:
        """Of two instances whose IoU is above it, only the one with the higher score stays."""
        return None

    @property
    def gives_rle(self) -> bool:
        """One detection for each instance, with run lengths; else one for each polygon."""
        return False

    def shown_name(self, class_name: str) -> str:
        return class_name


class Sam3V1(Sam3):
    type: Literal["roboflow_core/sam3@v1"]
    threshold: Fraction = 0.5

    @property
    def thresholds(self) -> tuple[float, ...]:
        return (self.threshold,) * max(1, len(self.class_names))


class Sam3WithoutOverlaps(Sam3):
    confidence: Fraction = 0.5
    per_class_confidence: Annotated[tuple[Fraction, ...], at_most(MAX_CLASSES)] | None = None
    apply_nms: bool = True
    nms_iou_threshold: Fraction = 0.9

    @model_validator(mode="after")
    def _one_confidence_per_class(self) -> "Sam3WithoutOverlaps":
        own = self.per_class_confidence
        if own is not None and len(own) != len(self.class_names):
            raise ValueError(
                f"per_class_confidence length ({len(own)}) must match class_names length "
                f"({len(self.class_names)})"
            )
        return self

    @property
    def thresholds(self) -> tuple[float, ...]:
        """A class's own confidence counts where it is above the common one."""
        own = self.per_class_confidence or (0.0,) * max(1, len(self.class_names))
        return tuple(max(self.confidence, one) for one in own)

    @property
    def max_overlap(self) -> float | None:
        return self.nms_iou_threshold if self.apply_nms else None


class Sam3V2(Sam3WithoutOverlaps):
    type: Literal["roboflow_core/sam3@v2"]


class Sam3V3(Sam3WithoutOverlaps):
    type: Literal["roboflow_core/sam3@v3"]
    class_mapping: ClassMapping | None = None
    output_format: Literal["rle", "polygons"] = "rle"

    @property
    def gives_rle(self) -> bool:
        return self.output_format == "rle"

    def shown_name(self, class_name: str) -> str:
        return (self.class_mapping or {}).get(class_name, class_name)


SAMPLED_PALETTES = ("Viridis", "Plasma", "Inferno", "Magma", "Cividis")
_LISTED = (
    *("Pastel1", "Pastel2", "Paired", "Accent", "Dark2", "Set1", "Set2", "Set3"),
    *("Tab10", "Tab20", "Tab20b", "Tab20c"),
)
PALETTES = (
    "DEFAULT",
    "CUSTOM",
    "ROBOFLOW",
    *(f"Matplotlib {name}" for name in SAMPLED_PALETTES + _LISTED),
)


def _check_palette(name: str) -> str:
    if name not in PALETTES:
        raise ValueError(f"must be one of {', '.join(PALETTES)}")
    return name


def _check_axis(axis: str) -> str:
    if axis == "TRACK":
        raise ValueError("TRACK needs detections with tracker ids, and no block here gives them")
    return axis


class Visualization(Block):
    """Draws detections on an image. `copy_image` changes nothing: images are never drawn over."""

    TAKES: ClassVar[Mapping[str, Kind]] = {**Block.TAKES, "predictions": Kind.DETECTIONS}
    GIVES: ClassVar[Mapping[str, Kind]] = {"image": Kind.IMAGE}

    predictions: Selector
    copy_image: bool = True
    color_palette: Annotated[str, AfterValidator(_check_palette)] = "DEFAULT"
    palette_size: Annotated[int, Field(ge=1, le=256)] = 10
    custom_colors: Annotated[tuple[AnyColour, ...], at_most(MAX_COLOURS)] = ()
    color_axis: Annotated[Literal["CLASS", "INDEX", "TRACK"], AfterValidator(_check_axis)] = "CLASS"

    @model_validator(mode="after")
    def _custom_needs_colours(self) -> "Visualization":
        if self.color_palette == "CUSTOM" and not self.custom_colors:
            raise ValueError("color_palette CUSTOM needs custom_colors")
        return self


class PolygonVisualization(Visualization):
    type: Literal["roboflow_core/polygon_visualization@v1", "PolygonVisualization"]
    thickness: LineWidth = 2


class MaskVisualization(Visualization):
    type: Literal["roboflow_core/mask_visualization@v1", "MaskVisualization"]
    opacity: Fraction = 0.5


class BoundingBoxVisualization(Visualization):
    type: Literal["roboflow_core/bounding_box_visualization@v1", "BoundingBoxVisualization"]
    thickness: LineWidth = 2
    roundness: Fraction = 0.0


LabelText = Literal[
    "Class",
    "Confidence",
    "Class and Confidence",
    "Index",
    "Dimensions",
    "Area",
    "Tracker Id",
    "Time In Zone",
]
LabelPosition = Literal[
    "CENTER",
    "CENTER_LEFT",
    "CENTER_RIGHT",
    "TOP_CENTER",
    "TOP_LEFT",
    "TOP_RIGHT",
    "BOTTOM_LEFT",
    "BOTTOM_CENTER",
    "BOTTOM_RIGHT",
    "CENTER_OF_MASS",
]


class LabelVisualization(Visualization):
    type: Literal["roboflow_core/label_visualization@v1", "LabelVisualization"]
    text: LabelText = "Class"
    text_position: LabelPosition = "TOP_LEFT"
    text_color: AnyColour = (255, 255, 255)
    text_scale: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] = 1.0
    text_thickness: LineWidth = 1
    text_padding: Annotated[int, Field(ge=0, le=1000)] = 10
    border_radius: Annotated[int, Field(ge=0, le=1000)] = 0


class Crop(Block):
    GIVES: ClassVar[Mapping[str, Kind]] = {"crops": Kind.IMAGE}


class AbsoluteStaticCrop(Crop):
    """The same part of every image, in pixels. What lies outside the image is left out."""

    type: Literal["roboflow_core/absolute_static_crop@v1", "AbsoluteStaticCrop"]
    x_center: Pixels
    y_center: Pixels
    width: Pixels
    height: Pixels


class RelativeStaticCrop(Crop):
    """The same part of every image, in fractions of its sides. The peer's own type name has a
    slip of the pen, so both are known."""

    type: Literal[
        "roboflow_core/relative_statoic_crop@v1",
        "roboflow_core/relative_static_crop@v1",
        "RelativeStaticCrop",
    ]
    x_center: Fraction
    y_center: Fraction
    width: Fraction
    height: Fraction


class DynamicCrop(Block):
    """A crop for each detection. With `mask_opacity` what is not the object fades into
    `background_color`."""

    TAKES: ClassVar[Mapping[str, Kind]] = {
        **Block.TAKES,
        "predictions": Kind.DETECTIONS,
        "detections": Kind.DETECTIONS,
    }
    GIVES: ClassVar[Mapping[str, Kind]] = {"crops": Kind.IMAGE, "predictions": Kind.DETECTIONS}
    OPENS: ClassVar[bool] = True

    type: Literal["roboflow_core/dynamic_crop@v1", "DynamicCrop", "Crop"]
    predictions: Annotated[
        Selector, Field(validation_alias=AliasChoices("predictions", "detections"))
    ]
    mask_opacity: Fraction = 0.0
    background_color: AnyColour = (0, 0, 0)


_BLOCKS: tuple[type[Block], ...] = (
    *(Sam3V1, Sam3V2, Sam3V3),
    *(PolygonVisualization, MaskVisualization, BoundingBoxVisualization, LabelVisualization),
    *(AbsoluteStaticCrop, RelativeStaticCrop, DynamicCrop),
)


def _types(block: type[Block]) -> tuple[str, ...]:
    names: tuple[str, ...] = get_args(block.model_fields["type"].annotation)
    return names


BLOCKS: Mapping[str, type[Block]] = {name: block for block in _BLOCKS for name in _types(block)}
SUPPORTED = tuple(_types(block)[0] for block in _BLOCKS)
