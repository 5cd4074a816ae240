"""Numbers of many instances, in no more memory than they take."""

import numpy as np
from numpy.typing import ArrayLike


class Rows:
    """Grows at its end. Each row begins with the `image` that it is of."""

    def __init__(self, *columns: tuple[str, str] | tuple[str, str, tuple[int, ...]]) -> None:
        self._dtype = np.dtype([("image", "i8"), *columns])
        self._content = bytearray()

    def append(self, image: int, count: int, **columns: ArrayLike) -> None:
        """`count` rows. A column may be one value for all of them."""
        rows = np.empty(count, self._dtype)
        rows["image"] = image
        for name, values in columns.items():
            rows[name] = values
        self._content += rows.tobytes()

    def of_images(self, indexes: np.ndarray) -> np.ndarray:
        """The rows of these images, in the order in which they came. `image` becomes the place in
        `indexes`, which are sorted."""
        rows = np.frombuffer(self._content, self._dtype)
        places = np.searchsorted(indexes, rows["image"])
        known = places < len(indexes)
        known[known] = indexes[places[known]] == rows["image"][known]
        kept: np.ndarray = rows[known]
        kept["image"] = places[known]
        return kept
