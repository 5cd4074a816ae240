"""Images with most errors at IoU 0.5 and the prompts' thresholds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from domain.evaluation.documents import MAX_WORST_IMAGES, PromptErrors


@dataclass(frozen=True, slots=True)
class PromptInstances:
    """`instances` are rows of `ScoredInstances`, `positives` counts the truth of each image."""

    prompt_index: int
    threshold: float
    instances: np.ndarray
    positives: np.ndarray

    def errors(self) -> tuple[np.ndarray, np.ndarray]:
        """False positives and misses of each image."""
        shown = self.instances[self.instances["score"] >= np.float32(self.threshold)]
        right, wrong = (
            np.bincount(shown["image"][shown["right"] == right], minlength=len(self.positives))
            for right in (True, False)
        )
        return wrong, self.positives - right


def worst_images(prompts: Sequence[PromptInstances]) -> dict[int, list[PromptErrors]]:
    """The places of images with their errors, most errors first; of as many the first."""
    if not prompts:
        return {}
    total = np.sum([np.sum(prompt.errors(), axis=0) for prompt in prompts], axis=0)
    places = np.argsort(-total, kind="stable")[:MAX_WORST_IMAGES]
    places = places[total[places] > 0]
    found: dict[int, list[PromptErrors]] = {int(place): [] for place in places}
    for prompt in prompts:
        wrong, missed = prompt.errors()
        for place, errors in found.items():
            if wrong[place] or missed[place]:
                errors.append(
                    PromptErrors(
                        prompt_index=prompt.prompt_index,
                        false_positives=int(wrong[place]),
                        misses=int(missed[place]),
                    )
                )
    return {
        place: sorted(errors, key=lambda one: -one.false_positives - one.misses)
        for place, errors in found.items()
    }
