"""What one prompt finds in the images of a sample, in memory that does not grow with them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import log

import numpy as np

from domain.exports import ShownInstance
from domain.thresholds import reaches

BINS = 20  # of scores, from 0 to 1
NEAR = 0.2  # so far below the threshold is just below it
_NEARLY_WHOLE = 0.95  # of an image's pixels
# Shares of an image in bins that are 1 % wide, from a pixel of the largest image to all of them.
_LEAST_SHARE, _SHARE_STEP = 1e-9, log(1.01)
_SHARE_BINS = round(-log(_LEAST_SHARE) / _SHARE_STEP) + 1
_FLOAT32 = 1e-6  # 0.65 as the network says it is a little less, and belongs to the bin above it


@dataclass(slots=True)
class PromptTally:
    """An instance counts from `threshold` on; `scores` has all, in bins."""

    threshold: float
    instances: int = 0
    images: int = 0  # with an instance that counts
    near_images: int = 0  # with one just below the threshold
    whole_images: int = 0  # with one that counts and covers nearly the whole image
    best_score: float | None = None
    scores: np.ndarray = field(default_factory=lambda: np.zeros(BINS, dtype=np.int64))
    _share_sum: float = 0.0
    _shares: np.ndarray = field(default_factory=lambda: np.zeros(_SHARE_BINS, dtype=np.int64))

    def add(self, instances: Sequence[ShownInstance], *, image_area: int) -> list[ShownInstance]:
        """All its instances in one image; returns those that count."""
        for one in instances:
            self.scores[min(int(one.score * BINS + _FLOAT32), BINS - 1)] += 1
            self.best_score = max(one.score, self.best_score or 0.0)
        counting = [one for one in instances if reaches(one.score, self.threshold)]
        shares = [one.area / image_area for one in counting]
        self.instances += len(counting)
        self.images += bool(counting)
        self.whole_images += any(share >= _NEARLY_WHOLE for share in shares)
        self.near_images += any(
            reaches(one.score, self.threshold - NEAR) and not reaches(one.score, self.threshold)
            for one in instances
        )
        for share in shares:
            self._share_sum += share
            self._shares[_share_bin(share)] += 1
        return counting

    @property
    def mean_area_share(self) -> float | None:
        return self._share_sum / self.instances if self.instances else None

    @property
    def median_area_share(self) -> float | None:
        """Within 1 %."""
        if not self.instances:
            return None
        middle = np.searchsorted(np.cumsum(self._shares), (self.instances + 1) // 2)
        return min(1.0, _LEAST_SHARE * float(np.exp((middle + 0.5) * _SHARE_STEP)))

    @property
    def median_near_score(self) -> float:
        """The edge of a bin above which half of the instances just below the threshold lie."""
        first = int((self.threshold - NEAR) * BINS + _FLOAT32)
        last = int(self.threshold * BINS + _FLOAT32)
        near = self.scores[max(first, 0) : max(last, 1)]
        from_top = np.cumsum(near[::-1])
        below_top = int(np.searchsorted(from_top, (from_top[-1] + 1) // 2)) + 1
        return round((max(last, 1) - below_top) / BINS, 2)


def _share_bin(share: float) -> int:
    return int(log(max(share, _LEAST_SHARE) / _LEAST_SHARE) / _SHARE_STEP)
