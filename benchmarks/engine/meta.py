"""Meta's own code (the package sam3), in the two ways its repository shows."""

from collections.abc import Iterable, Iterator
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch.nn.functional import interpolate

from benchmarks.engine.answers import (
    FLOOR,
    MAX_PIXELS,
    Answer,
    Run,
    Unavailable,
    answers_of,
    opened,
)
from benchmarks.engine.subject import RANDOM_WEIGHTS, Subject
from domain.prompts import ConceptPrompt
from workers.engine.clip_tokenizer import bpe_file, clip_tokenizer_json
from workers.engine.decoding import decode
from workers.engine.engine import ImageInput
from workers.engine.reference import Reference, ReferenceCheckpoint
from workers.engine.reference_checkpoint import PUBLISHED_SIDE, build, load_reference

_LOADED: dict[str, Reference] = {}  # both ways share the network


def a_prompt_at_a_time(subject: Subject) -> Run:
    reference = _reference(subject)
    from sam3.model.sam3_image_processor import Sam3Processor

    processor = Sam3Processor(reference._model, confidence_threshold=FLOOR)
    return partial(_processor, subject, processor)


def batched_queries(subject: Subject) -> Run:
    return partial(_batched, subject, _reference(subject))


def _reference(subject: Subject) -> Reference:
    if subject.device.type != "cuda":
        raise Unavailable("CUDA only")
    if find_spec("sam3") is None:
        raise Unavailable("sam3 absent")
    if subject.model not in _LOADED:
        _LOADED[subject.model] = reference = _load(subject)
        watched = subject.findings.in_meta(reference._model.forward_grounding)
        reference._model.forward_grounding = watched
    return _LOADED[subject.model]


def _load(subject: Subject) -> Reference:
    if subject.model != RANDOM_WEIGHTS:
        return load_reference(subject.model, device="cuda", precision=_name(subject.dtype))
    vocabulary = bpe_file()
    if vocabulary is None:
        raise Unavailable("open_clip absent")
    network = build(vocabulary).to(subject.device).eval()
    tokenizer = clip_tokenizer_json(vocabulary)
    checkpoint = ReferenceCheckpoint(RANDOM_WEIGHTS, network, PUBLISHED_SIDE, tokenizer, "")
    return Reference(checkpoint, dtype=subject.dtype)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _processor(subject: Subject, processor: Any, jpegs: Iterable[bytes]) -> Iterator[list[Answer]]:
    for image in map(opened, jpegs):
        answers: list[Answer] = []
        lower = subject.dtype != torch.float32
        with torch.autocast("cuda", dtype=subject.dtype, enabled=lower):
            state = processor.set_image(image)
            for number, text in enumerate(subject.prompts):
                state = processor.set_text_prompt(text, state)
                answers += answers_of(number, state["scores"], state["masks"][:, 0])
        yield answers


def _batched(
    subject: Subject, reference: Reference, jpegs: Iterable[bytes]
) -> Iterator[list[Answer]]:
    prompts = tuple(ConceptPrompt(text) for text in subject.prompts)
    for jpeg in jpegs:
        pixels = decode(jpeg, max_pixels=MAX_PIXELS).pixels
        height, width, _ = pixels.shape
        image = ImageInput(reference.squash(pixels), width, height, prompts, FLOOR)
        (found,) = reference.segment([image])
        yield [
            answer
            for one in found
            for answer in _resized(one, width=width, height=height, device=subject.device)
        ]


def _resized(found: Any, *, width: int, height: int, device: torch.device) -> Iterator[Answer]:
    mask = torch.as_tensor(found.mask, device=device)[None, None]
    large = interpolate(mask, (height, width), mode="bilinear")[0] > 0
    return answers_of(found.prompt, torch.tensor([found.score]), large)
