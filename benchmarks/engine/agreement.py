"""How much the answers of two ways are alike."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.engine.answers import Answer
from domain.annotations import Rle
from domain.rle import run_lengths

SAME_MASK_IOU = 0.98


@dataclass(frozen=True)
class Agreement:
    """`matched` is the share of instances with a partner, one to one, in the same image, of the
    same prompt, with a mask of IoU 0.98 or more, of all that either way found. `score_difference`
    is the worst between partners; with random weights, of all queries."""

    matched: float
    score_difference: float
    instances: int


def agreement(
    answers: Sequence[Sequence[Answer]], expected: Sequence[Sequence[Answer]]
) -> Agreement:
    partners = list(_partners(answers, expected))
    found = sum(map(len, answers))
    union = found + sum(map(len, expected)) - len(partners)
    worst = max((abs(one.score - other.score) for one, other in partners), default=0.0)
    return Agreement(len(partners) / union if union else 1.0, worst, found)


def worst_difference(scores: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Of pairs x queries each, in passes of any size."""
    return float((torch.cat(list(scores)) - torch.cat(list(expected))).abs().max())


def _partners(
    answers: Sequence[Sequence[Answer]], expected: Sequence[Sequence[Answer]]
) -> Iterator[tuple[Answer, Answer]]:
    for own, others in zip(answers, expected, strict=True):
        for prompt in {answer.prompt for answer in own}:
            yield from _matched(
                [answer for answer in own if answer.prompt == prompt],
                [answer for answer in others if answer.prompt == prompt],
            )


def _matched(own: list[Answer], others: list[Answer]) -> Iterator[tuple[Answer, Answer]]:
    """Best first."""
    ious = _ious([one.mask for one in own], [other.mask for other in others])
    while ious.size and ious.max() >= SAME_MASK_IOU:
        one, other = np.unravel_index(ious.argmax(), ious.shape)
        yield own[one], others[other]
        ious[one], ious[:, other] = 0, 0


def _ious(own: list[Rle], others: list[Rle]) -> np.ndarray:
    decoded = [pixels(other) for other in others]
    return np.array([[_iou(inside, other) for other in decoded] for inside in map(pixels, own)])


def _iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / max(1, (one | other).sum()))


def pixels(rle: Rle) -> np.ndarray:
    """Bool, column by column."""
    lengths = run_lengths(rle.counts)
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
