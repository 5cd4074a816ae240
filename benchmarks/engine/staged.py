"""Our stages in a row, one step after the other; parts can be exchanged."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from benchmarks.engine.answers import FLOOR, MAX_PIXELS, Answer, batches, full_mask
from benchmarks.engine.subject import Subject
from domain.annotations import Rle
from workers.engine.concepts import ConceptStages, Pair, Scored
from workers.engine.decoding import decode
from workers.engine.jpeg_on_device import decode_and_squash, suits
from workers.engine.mask_changes import ImageMasks, changes
from workers.engine.mask_encoding import encode, encode_changes
from workers.engine.mask_resizing import resize
from workers.engine.passes import PassSizes


@dataclass(frozen=True)
class Squashed:
    """B x 3 x side x side uint8, with the images' widths and heights."""

    pixels: Tensor
    sizes: list[tuple[int, int]]


def on_host(subject: Subject, batch: Sequence[bytes]) -> Squashed:
    images = [decode(jpeg, max_pixels=MAX_PIXELS).pixels for jpeg in batch]
    squashed = torch.stack([subject.preprocessing.squash(image) for image in images])
    return Squashed(squashed.to(subject.device), [image.shape[1::-1] for image in images])


def on_device(subject: Subject, batch: Sequence[bytes]) -> Squashed:
    jpegs = [jpeg for data in batch if (jpeg := suits(data, max_pixels=MAX_PIXELS))]
    squashed = decode_and_squash(jpegs, side=subject.preprocessing.side, device=subject.device)
    pixels = [one for one in squashed if one is not None]
    if len(pixels) < len(batch):
        raise RuntimeError("the device refused a JPEG")
    return Squashed(torch.stack(pixels), [(jpeg.width, jpeg.height) for jpeg in jpegs])


Sized = Sequence[tuple[Scored, tuple[int, int]]]  # what was found, and its image's size


def full_masks(found: Sized) -> Iterator[list[Rle | None]]:
    """Resized on the device, moved and encoded as they are."""
    for one, (width, height) in found:
        large = interpolate(one.masks[None], (height, width), mode="bilinear")[0] > 0
        yield [full_mask(mask) for mask in large.cpu().numpy()]


def crops(found: Sized) -> Iterator[list[Rle | None]]:
    """Small masks moved, resized and encoded on the host where something is in them."""
    for one, (width, height) in found:
        touched = [resize(mask, width=width, height=height) for mask in one.masks.cpu().numpy()]
        encoded = [encode(crop) if crop else None for crop in touched]
        yield [mask.rle if mask else None for mask in encoded]


def changes_on_device(found: Sized) -> Iterator[list[Rle | None]]:
    sized = [ImageMasks(one.masks, width, height) for one, (width, height) in found]
    for (_, (width, height)), of_masks in zip(found, changes(sized), strict=True):
        encoded = [encode_changes(one, width=width, height=height) for one in of_masks]
        yield [mask.rle if mask else None for mask in encoded]


def with_any_attention(stages: ConceptStages, pixel_values: Tensor) -> Tensor:
    """ConceptStages.see, but for its choice of kernels."""
    features: Tensor = stages.vit(pixel_values)
    return features


@dataclass(frozen=True)
class Steps:
    """By default without any of the savings of `prepare`, `encode` and `see`."""

    stages: ConceptStages
    sizes: PassSizes
    prepare: Callable[[Subject, Sequence[bytes]], Squashed] = on_host
    encode: Callable[[Sized], Iterator[list[Rle | None]]] = full_masks
    see: Callable[[ConceptStages, Tensor], Tensor] = with_any_attention


def go(subject: Subject, steps: Steps, jpegs: Iterable[bytes]) -> Iterator[list[Answer]]:
    for batch in batches(jpegs, steps.sizes.images):
        yield from _batch_answers(subject, steps, batch)


def _batch_answers(subject: Subject, steps: Steps, batch: Sequence[bytes]) -> list[list[Answer]]:
    squashed = steps.prepare(subject, batch)
    features = steps.see(steps.stages, subject.preprocessing.normalise(squashed.pixels))
    pairs = [
        Pair(image, prompt, text, floor=FLOOR)
        for image in range(len(batch))
        for prompt, text in enumerate(subject.prompts)
    ]
    answers: list[list[Answer]] = [[] for _ in batch]
    for found in steps.stages.find(features, pairs, sizes=steps.sizes):
        sized = [(one, squashed.sizes[one.image]) for one in found]
        for one, masks in zip(found, steps.encode(sized), strict=True):
            for score, mask in zip(one.scores, masks, strict=True):
                if mask is not None:
                    answers[one.image].append(Answer(one.prompt, score, mask))
    return answers
