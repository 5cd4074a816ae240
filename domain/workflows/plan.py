"""A workflow that can run: every parameter has its value, every step comes after those it needs."""

from dataclasses import dataclass
from typing import Any, Literal

from domain.workflows.blocks import Block
from domain.workflows.selectors import FromInput, FromStep

Lineage = tuple[str, ...]
"""The steps that gave several results for one image, outermost first: what belongs together has
the same lineage, and a value lies in as many lists as its lineage is long."""


@dataclass(frozen=True, slots=True)
class Step:
    """`lineage` is that of what the step takes."""

    block: Block
    image: FromInput | FromStep
    predictions: FromStep | None
    lineage: Lineage

    @property
    def name(self) -> str:
        return self.block.name


@dataclass(frozen=True, slots=True)
class Value:
    """A parameter in an output, the same for every image."""

    value: Any


@dataclass(frozen=True, slots=True)
class PlannedOutput:
    name: str
    source: FromInput | FromStep | Value
    lineage: Lineage
    coordinates_system: Literal["own", "parent"]


@dataclass(frozen=True, slots=True)
class Plan:
    """`images` and `parameters` are the names of the inputs. `batch_size` is the number of images
    that each image input has, or stands for."""

    images: tuple[str, ...]
    parameters: tuple[str, ...]
    batch_size: int
    steps: tuple[Step, ...]
    outputs: tuple[PlannedOutput, ...]

    @property
    def answers(self) -> int:
        """The number of elements in the answer: one for each image, or one if no output depends
        on images."""
        constant = all(isinstance(output.source, Value) for output in self.outputs)
        return 1 if constant else self.batch_size
