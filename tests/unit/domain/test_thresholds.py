import pytest

from domain.geometry import Box
from domain.prompts import ConceptPrompt, MaskPrompt, Prompt
from domain.thresholds import effective_threshold, own_threshold, reaches


@pytest.mark.parametrize(
    ("prompt_threshold", "min_score", "expected"),
    [(None, None, 0.5), (0.7, None, 0.7), (0.0, None, 0.0), (0.7, 0.2, 0.2), (0.7, 0.0, 0.0)],
)
def test_the_view_comes_first_then_the_prompt_then_one_half(
    prompt_threshold: float | None, min_score: float | None, expected: float
) -> None:
    assert effective_threshold(prompt_threshold, min_score) == expected


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (ConceptPrompt("cat"), None),
        (ConceptPrompt("cat", threshold=0.0), 0.0),
        (MaskPrompt(Box(0, 0, 1, 1)), 0.0),
        (MaskPrompt(Box(0, 0, 1, 1), threshold=0.9), 0.9),
    ],
)
def test_a_prompt_for_one_object_gets_its_mask_whatever_the_score(
    prompt: Prompt, expected: float | None
) -> None:
    assert own_threshold(prompt) == expected


@pytest.mark.parametrize(
    ("score", "threshold", "expected"),
    [
        (0.949999988079071, 0.95, True),  # 0.95 in float32
        (0.9499999284744263, 0.95, False),  # the number before it
        (0.5, 0.5, True),
        (0.0, 0.0, True),
    ],
)
def test_a_score_of_the_network_reaches_a_threshold_in_its_own_precision(
    score: float, threshold: float, expected: bool
) -> None:
    assert reaches(score, threshold) is expected
