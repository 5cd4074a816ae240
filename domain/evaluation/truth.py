"""Annotations that are taken as true: COCO instance annotations (cocodataset.org/#format-data).

The truth is exhaustive: what is not annotated in a listed image is not there, for each of its
categories.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, BinaryIO, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from domain.annotations import Rle
from domain.documents import MAX_IMAGE_REFERENCE
from domain.evaluation.json_lists import json_lists
from domain.evaluation.truth_masks import BadMask, mask_of

NO_MAPPING: Mapping[str, str | None] = MappingProxyType({})

_MAX_PIXELS = 2**31  # pycocotools counts in 32 bits
_MAX_ANNOTATIONS = 5000  # of an image: each is compared with each instance, in Python
_NOT_COCO = "not COCO instance annotations: "


class BadTruth(ValueError):
    """The truth cannot be used. Its message is for whoever made it."""


@dataclass(frozen=True, slots=True)
class TruthInstance:
    """`class_id` counts the classes from 0. `area` is what the annotation says, in pixels, else
    the mask's. A crowd is a region of several instances that are not told apart."""

    class_id: int
    mask: Rle
    area: float
    crowd: bool


@dataclass(frozen=True, slots=True)
class TruthImage:
    name: str
    width: int
    height: int
    instances: tuple[TruthInstance, ...]


@dataclass(frozen=True, slots=True)
class Truth:
    """`matched` and `unmatched` are the names of categories: with their classes, and with how many
    annotations were passed over. `left_out` are those that the mapping leaves out."""

    images: tuple[TruthImage, ...]
    matched: Mapping[str, str]
    left_out: tuple[str, ...]
    unmatched: Mapping[str, int]


Identifier = int | str
Side = Annotated[int, Field(gt=0)]


class _Part(BaseModel):
    """What is not needed is not looked at."""

    model_config = ConfigDict(allow_inf_nan=False)


class _Category(_Part):
    id: Identifier
    name: str


class _Image(_Part):
    id: Identifier
    file_name: str = Field(min_length=1, max_length=MAX_IMAGE_REFERENCE)
    width: Side
    height: Side


class _Annotation(_Part):
    id: Identifier | None = None
    image_id: Identifier
    category_id: Identifier
    segmentation: Any = None
    area: float | None = Field(None, ge=0)
    iscrowd: bool = False

    def __str__(self) -> str:
        return (
            f"an annotation of image {self.image_id}"
            if self.id is None
            else f"annotation {self.id}"
        )


_Known = TypeVar("_Known", _Category, _Image)
_PartT = TypeVar("_PartT", bound=_Part)


def read_truth(
    file: BinaryIO,
    *,
    classes: Sequence[str],
    mapping: Mapping[str, str | None] = NO_MAPPING,
    note: Callable[[], None] = lambda: None,
) -> Truth:
    """A category is the class that `mapping` says, else the one of its name, else the only one
    whose name differs in nothing but capital letters. Raise BadTruth.

    Reads the file twice, since annotations may come before what they speak of; `note` is called
    for each MB of it.
    """
    listed = _listed(file, note)
    images, categories = _by_id(listed.images, "images"), _by_id(listed.categories, "categories")
    names = list(dict.fromkeys(category.name for category in listed.categories))
    fitting = _fitting(names, classes=classes, mapping=mapping)
    instances, passed_over = _instances(_annotations(file, note), images, categories, fitting)
    return Truth(
        images=tuple(
            TruthImage(image.file_name, image.width, image.height, tuple(instances[image.id]))
            for image in listed.images
        ),
        matched={name: classes[number] for name, number in fitting.items()},
        left_out=tuple(name for name in names if name in mapping and mapping[name] is None),
        unmatched={
            name: passed_over[name] for name in names if name not in fitting and name not in mapping
        },
    )


@dataclass(frozen=True, slots=True)
class _Listed:
    images: list[_Image]
    categories: list[_Category]


def _listed(file: BinaryIO, note: Callable[[], None]) -> _Listed:
    images, categories = list[_Image](), list[_Category]()
    missing = {"images", "categories", "annotations"}
    with _readable():
        for name, entries in _lists(file, note):
            missing.discard(name)
            if name == "images":
                images += _parts(_Image, name, entries)
            elif name == "categories":
                categories += _parts(_Category, name, entries)
    if missing:
        raise BadTruth(f"{_NOT_COCO}{min(missing)}: there is no such list")
    _check_images(images)
    return _Listed(images, categories)


def _annotations(file: BinaryIO, note: Callable[[], None]) -> Iterator[_Annotation]:
    with _readable():
        for name, entries in _lists(file, note):
            if name == "annotations":
                yield from _parts(_Annotation, name, entries)


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except BadTruth:
        raise
    except (ValueError, RecursionError) as error:
        raise BadTruth(f"{_NOT_COCO}{error}") from None


def _lists(file: BinaryIO, note: Callable[[], None]) -> Iterator[tuple[str, Iterator[Any]]]:
    file.seek(0)
    return json_lists(file, note=note)


def _parts(kind: type[_PartT], name: str, entries: Iterator[Any]) -> Iterator[_PartT]:
    for number, entry in enumerate(entries):
        try:
            yield kind.model_validate(entry)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, (name, number, *first["loc"])))
            raise BadTruth(f"{_NOT_COCO}{place}: {first['msg']}") from None


def _check_images(images: Sequence[_Image]) -> None:
    seen = set()
    for image in images:
        if image.file_name in seen:
            raise BadTruth(f"image {image.file_name!r} is listed twice")
        if image.width * image.height >= _MAX_PIXELS:
            raise BadTruth(f"image {image.file_name!r} has more than {_MAX_PIXELS:,} pixels")
        seen.add(image.file_name)


def _by_id(parts: Iterable[_Known], kind: str) -> dict[Identifier, _Known]:
    found: dict[Identifier, _Known] = {}
    for part in parts:
        if found.setdefault(part.id, part) is not part:
            raise BadTruth(f"two {kind} have the id {part.id!r}")
    return found


def _fitting(
    names: Sequence[str], *, classes: Sequence[str], mapping: Mapping[str, str | None]
) -> dict[str, int]:
    """The class ids of the categories that fit a class."""
    _check_mapping(mapping, names=names, classes=classes)
    ids = {name: number for number, name in enumerate(classes)}
    alike = Counter(name.casefold() for name in classes)
    only = {name.casefold(): name for name in classes if alike[name.casefold()] == 1}
    wanted = {
        name: mapping.get(name, name if name in ids else only.get(name.casefold()))
        for name in names
    }
    return {name: ids[fit] for name, fit in wanted.items() if fit is not None}


def _check_mapping(
    mapping: Mapping[str, str | None], *, names: Sequence[str], classes: Sequence[str]
) -> None:
    for name, wanted in mapping.items():
        if name not in names:
            raise BadTruth(
                f"the mapping's category {name!r} is none of the truth's: {_some(names)}"
            )
        if wanted is not None and wanted not in classes:
            raise BadTruth(f"the mapping's class {wanted!r} is none of the job's: {_some(classes)}")


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:10])) + (", ..." if len(names) > 10 else "")


def _instances(
    annotations: Iterable[_Annotation],
    images: Mapping[Identifier, _Image],
    categories: Mapping[Identifier, _Category],
    fitting: Mapping[str, int],
) -> tuple[dict[Identifier, list[TruthInstance]], Counter[str]]:
    """By image; and how many annotations of each category are passed over."""
    instances: dict[Identifier, list[TruthInstance]] = {number: [] for number in images}
    passed_over: Counter[str] = Counter()
    for annotation in annotations:
        image, category = images.get(annotation.image_id), categories.get(annotation.category_id)
        if image is None:
            raise BadTruth(f"{annotation} is of image {annotation.image_id!r}, which is not listed")
        if category is None:
            raise BadTruth(
                f"{annotation} is of category {annotation.category_id!r}, which is not listed"
            )
        if category.name in fitting:
            instances[image.id].append(_instance(annotation, image, fitting[category.name]))
            if len(instances[image.id]) > _MAX_ANNOTATIONS:
                raise BadTruth(
                    f"image {image.file_name!r} has more than {_MAX_ANNOTATIONS:,} annotations"
                )
        else:
            passed_over[category.name] += 1
    return instances, passed_over


def _instance(annotation: _Annotation, image: _Image, class_id: int) -> TruthInstance:
    try:
        mask, area = mask_of(annotation.segmentation, (image.height, image.width))
    except BadMask as error:
        raise BadTruth(f"{annotation} {error}") from None
    stated = area if annotation.area is None else annotation.area
    return TruthInstance(class_id, mask, stated, annotation.iscrowd)
