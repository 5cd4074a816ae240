"""How much goes through the network at once."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PassSizes:
    """`images` through the ViT, `pairs` of image and prompt through the DETR stages, `mask_pairs`
    of those that found something through the mask decoder."""

    images: int
    pairs: int
    mask_pairs: int

    def __str__(self) -> str:
        return (
            f"{self.images} images, {self.pairs} pairs and the masks of {self.mask_pairs} at once"
        )

    def halved(self) -> "PassSizes | None":
        """None where nothing smaller is left."""
        if self.images == self.pairs == self.mask_pairs == 1:
            return None
        return PassSizes(
            max(1, self.images // 2), max(1, self.pairs // 2), max(1, self.mask_pairs // 2)
        )


def fitting(
    free_bytes: int, *, image_bytes: float, pair_bytes: float, mask_pair_bytes: float
) -> PassSizes:
    """As much as four fifths of the free memory hold, what a batch's images and its pairs and its
    masks take at their worst added up, and no more than keeps a large GPU busy."""
    usable_bytes = 0.8 * free_bytes
    return PassSizes(
        images=_between(1, 0.2 * usable_bytes / image_bytes, 8),
        pairs=_between(1, 0.4 * usable_bytes / pair_bytes, 128),
        mask_pairs=_between(1, 0.4 * usable_bytes / mask_pair_bytes, 16),
    )


def _between(least: int, wanted: float, most: int) -> int:
    return max(least, min(int(wanted), most))


# Measured on two cores with the demo network.
CPU_SIZES = PassSizes(images=4, pairs=16, mask_pairs=1)
