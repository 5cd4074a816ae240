"""Which instances a view of the result shows. All above the job's floor are stored."""

import numpy as np

from domain.prompts import MaskPrompt, Prompt

DEFAULT_MIN_SCORE = 0.5


def own_threshold(prompt: Prompt) -> float | None:
    """The prompt's own threshold, if any.

    Box and click prompts name one object and always get their one mask: 0 unless they say else.
    """
    if prompt.threshold is None and isinstance(prompt, MaskPrompt):
        return 0.0
    return prompt.threshold


def effective_threshold(prompt_threshold: float | None, min_score: float | None) -> float:
    """The score from which an instance counts: the view's, else the prompt's, else 0.5."""
    if min_score is not None:
        return min_score
    return DEFAULT_MIN_SCORE if prompt_threshold is None else prompt_threshold


def reaches(score: float, threshold: float) -> bool:
    """Scores are float32: 0.95 as the network says it is a little less than 0.95."""
    return bool(np.float32(score) >= np.float32(threshold))
