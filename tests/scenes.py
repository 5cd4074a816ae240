"""Draws seeded scenes of coloured shapes whose objects are known, for tests with meaning."""

from dataclasses import dataclass
from io import BytesIO
from math import cos, pi, sin
from random import Random

import numpy as np
from PIL import Image, ImageChops, ImageDraw

COLOURS = {  # red, green, blue in parts of one; each object varies by up to 0.05
    "red": (0.85, 0.12, 0.12),
    "green": (0.10, 0.65, 0.20),
    "blue": (0.12, 0.25, 0.85),
    "yellow": (0.95, 0.85, 0.15),
    "purple": (0.55, 0.15, 0.70),
    "orange": (0.97, 0.50, 0.08),
    "white": (0.95, 0.95, 0.95),
    "black": (0.06, 0.06, 0.06),
}
SHAPES = ("circle", "square", "triangle", "star", "ring", "cross")


@dataclass(frozen=True)
class SceneObject:
    """`mask` is bool, height x width; `box` is (x0, y0, x1, y1), its tight corners in pixels."""

    colour: str
    shape: str
    mask: np.ndarray
    box: tuple[float, float, float, float]

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"

    @property
    def centre(self) -> tuple[float, float]:
        """The set pixel in the middle of the column-wise order: inside, also for rings."""
        ys, xs = np.nonzero(self.mask)
        middle = len(ys) // 2
        return float(xs[middle]), float(ys[middle])


@dataclass(frozen=True)
class Scene:
    image: Image.Image
    objects: tuple[SceneObject, ...]

    def encoded(self, image_format: str = "PNG") -> bytes:
        buffer = BytesIO()
        self.image.save(buffer, image_format)
        return buffer.getvalue()


def draw_scene(
    seed: int, *, size: int = 512, objects: int | None = None, noise: bool | None = None
) -> Scene:
    """2 to 5 objects that do not touch, with a radius of 0.1 to 0.18 of the side."""
    random = Random(seed)
    image = _background(random, size, random.random() < 0.5 if noise is None else noise)
    drawn: list[SceneObject] = []
    taken = Image.new("1", (size, size))
    for _ in range(objects or random.randint(2, 5)):
        mask = _free_shape(random, taken)
        if mask is not None:
            drawn.append(_paint(random, image, mask[1], shape=mask[0]))
            taken = ImageChops.logical_or(taken, mask[1])
    return Scene(image, tuple(drawn))


def _background(random: Random, size: int, noise: bool) -> Image.Image:
    colour = np.array([random.uniform(90, 170)] * 3) + [random.uniform(-12, 12) for _ in range(3)]
    pixels = np.broadcast_to(colour, (size, size, 3))
    if noise:
        pixels = pixels + np.random.default_rng(random.randrange(2**32)).normal(
            0, 8, (size, size, 3)
        )
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _free_shape(random: Random, taken: Image.Image) -> tuple[str, Image.Image] | None:
    """A shape on a free spot with a little air around it; None if 30 tries find no room."""
    size = taken.width
    for _ in range(30):
        radius = random.uniform(0.10, 0.18) * size
        x, y = (random.uniform(radius, size - radius) for _ in range(2))
        air = Image.new("1", (size, size))
        ImageDraw.Draw(air).ellipse(_around(x, y, radius * 1.15), fill=1)
        if ImageChops.logical_and(air, taken).getbbox() is None:
            shape = random.choice(SHAPES)
            mask = Image.new("1", (size, size))
            _draw(ImageDraw.Draw(mask), shape, x=x, y=y, radius=radius, angle=random.uniform(0, pi))
            return shape, mask
    return None


def _paint(random: Random, image: Image.Image, mask: Image.Image, *, shape: str) -> SceneObject:
    colour = random.choice(list(COLOURS))
    parts = [part + random.uniform(-0.05, 0.05) for part in COLOURS[colour]]
    fill = tuple(round(255 * min(1.0, max(0.0, part))) for part in parts)
    image.paste(fill, mask=mask)
    box = mask.getbbox()
    assert box is not None
    return SceneObject(colour, shape, np.array(mask), tuple(map(float, box)))  # type: ignore[arg-type]


def _draw(
    draw: ImageDraw.ImageDraw, shape: str, *, x: float, y: float, radius: float, angle: float
) -> None:
    def turned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
        return [
            (x + radius * r * cos(angle + a), y + radius * r * sin(angle + a)) for r, a in points
        ]

    if shape in ("circle", "ring"):
        draw.ellipse(_around(x, y, radius), fill=1)
    if shape == "ring":
        draw.ellipse(_around(x, y, radius * 0.55), fill=0)
    if shape == "square":
        draw.polygon(turned([(1.0, pi / 4 + k * pi / 2) for k in range(4)]), fill=1)
    if shape == "triangle":
        draw.polygon(turned([(1.0, k * 2 * pi / 3) for k in range(3)]), fill=1)
    if shape == "star":
        draw.polygon(turned([(1.0 if k % 2 else 0.35, k * pi / 5) for k in range(10)]), fill=1)
    if shape == "cross":
        for start in (0.0, pi / 2):
            bar = [(1.0, start + end + side) for end in (0, pi) for side in (-0.3, 0.3)]
            draw.polygon(turned(bar), fill=1)


def _around(x: float, y: float, radius: float) -> tuple[float, float, float, float]:
    return (x - radius, y - radius, x + radius, y + radius)
