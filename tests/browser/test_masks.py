"""Run lengths are read, scaled and painted in the browser as they are here."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from domain.overlays import class_colour
from tests.browser.conftest import Console

_AT = "/console/static/lib"


def _blobs(seed: int, *, height: int, width: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    ys, xs = np.mgrid[:height, :width]
    mask = np.zeros((height, width), np.uint8)
    for _ in range(4):
        y, x, radius = random.integers(height), random.integers(width), random.integers(3, 40)
        mask ^= (((ys - y) ** 2 + (xs - x) ** 2) < radius**2).astype(np.uint8)
    return mask


def _rle(mask: np.ndarray) -> dict[str, object]:
    found = coco_mask.encode(np.asfortranarray(mask))
    return {"size": found["size"], "counts": found["counts"].decode()}


@pytest.fixture
def evaluate(console: Console):
    page = console.go("/jobs")

    def evaluate_(script: str, argument: object) -> object:
        return page.evaluate(script, argument)

    return evaluate_


@pytest.mark.parametrize(
    "mask",
    [
        *(_blobs(seed, height=97, width=131) for seed in range(4)),
        np.zeros((5, 7), np.uint8),
        np.ones((5, 7), np.uint8),
        _blobs(9, height=2100, width=1500),  # lengths of more than 15 bits
    ],
)
def test_run_lengths_are_decoded_as_pycocotools_encodes_them(evaluate, mask: np.ndarray) -> None:
    lengths = evaluate(
        f"async (counts) => [...(await import('{_AT}/rle.js')).runLengths(counts)]",
        _rle(mask)["counts"],
    )
    flat = mask.flatten(order="F")
    values = (np.arange(len(lengths)) & 1).astype(np.uint8)
    assert (np.repeat(values, lengths) == flat).all()


@pytest.mark.parametrize("scale", [0.37, 1.0, 2.6])
@pytest.mark.parametrize(("x", "y"), [(0, 0), (-20.5, 13.25)])
def test_a_window_shows_for_each_pixel_the_one_of_the_mask_in_its_middle(
    evaluate, scale: float, x: float, y: float
) -> None:
    mask = _blobs(1, height=97, width=131)
    window = {"scale": scale, "x": x, "y": y, "width": 90, "height": 70}
    runs = evaluate(
        f"""async ([counts, window]) => {{
            const {{ runLengths, scaleRuns }} = await import('{_AT}/rle.js');
            return [...scaleRuns(runLengths(counts), 97, window)];
        }}""",
        [_rle(mask)["counts"], window],
    )
    shown = np.zeros(90 * 70, np.uint8)
    for start, end in zip(runs[::2], runs[1::2], strict=True):
        shown[start:end] = 1
    columns = np.floor((np.arange(90) + 0.5 - x) / scale).astype(int)
    rows = np.floor((np.arange(70) + 0.5 - y) / scale).astype(int)
    inside = ((columns >= 0) & (columns < 131))[None] & ((rows >= 0) & (rows < 97))[:, None]
    expected = np.where(inside, mask[rows.clip(0, 96)][:, columns.clip(0, 130)], 0)
    assert (expected == shown.reshape(90, 70).T).all()


def test_painted_are_tints_of_the_class_and_a_small_mask_lies_on_a_large_one(evaluate) -> None:
    large, small = np.zeros((40, 60), np.uint8), np.zeros((40, 60), np.uint8)
    large[2:38, 2:58], small[12:28, 20:40] = 1, 1
    annotations = [
        {"category_id": number, "score": 0.9, "area": int(mask.sum()), "segmentation": _rle(mask)}
        for number, mask in ((1, small), (2, large))
    ]
    pixels = evaluate(
        f"""async (annotations) => {{
            const {{ decoded, paint, scaled }} = await import('{_AT}/masks.js');
            const {{ classColour }} = await import('{_AT}/colours.js');
            const [width, height] = [60, 40];
            const canvas = Object.assign(document.createElement('canvas'), {{ width, height }});
            const window = {{ scale: 1, x: 0, y: 0, width, height }};
            const masks = scaled(decoded(annotations), window, 1);
            const colourOf = ({{ category_id: id }}) => classColour(id - 1);
            paint(canvas, masks, {{ shows: () => true, colourOf }});
            return [...canvas.getContext('2d').getImageData(0, 0, width, height).data];
        }}""",
        annotations,
    )
    painted = np.array(pixels).reshape(40, 60, 4)
    assert [painted[at][3] for at in ((20, 30), (20, 10), (0, 0))] == [115, 115, 0]
    for at, number in (((20, 30), 0), ((20, 10), 1)):
        assert np.abs(painted[at][:3] - class_colour(number)).max() <= 3  # premultiplied
    # the outline of the small one, with a dark rim around it on the large one
    assert tuple(painted[20, 20]) == (*class_colour(0), 255)
    assert tuple(painted[20, 19]) == (0, 0, 0, 153)


def test_classes_have_the_colours_of_contact_sheets_and_reports(evaluate) -> None:
    colours = evaluate(
        f"async (count) => {{ const {{ classColour }} = await import('{_AT}/colours.js');"
        "return Array.from({ length: count }, (_, number) => classColour(number)); }",
        60,
    )
    expected = [class_colour(number) for number in range(60)]
    assert np.abs(np.array(colours) - np.array(expected)).max() <= 1  # halves round to even there
