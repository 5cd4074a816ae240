"""Detections drawn on an image, without a network."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from domain.annotations import Rle
from domain.workflows.blocks import (
    BLOCKS,
    PALETTES,
    DynamicCrop,
    LabelPosition,
    LabelText,
    Visualization,
)
from workers.interactive.allowance import Canvases
from workers.interactive.crops import dynamic_crops
from workers.interactive.detections import Detection, Detections, Mask, Outline
from workers.interactive.drawing import draw, label_text, palette
from workers.interactive.pictures import Frame, MadePicture, Picture, SentPicture

GREY = 100
PURPLE, RED = (163, 81, 251), (255, 64, 64)  # the first two of DEFAULT
CANVASES = Canvases(10**6).of(0)
SIZE = {"width": 200, "height": 120}
FRAME = Frame.whole("image", **SIZE)


def picture() -> Picture:
    file = BytesIO()
    Image.new("RGB", (200, 120), (GREY, GREY, GREY)).save(file, "PNG")
    return SentPicture("image", file.getvalue(), max_pixels=10**6)


def whole(x: int, y: int, width: int, height: int) -> Mask:
    pixels = np.zeros((120, 200), np.uint8)
    pixels[y : y + height, x : x + width] = 1
    counts = coco_mask.encode(np.asfortranarray(pixels))["counts"]
    return Mask(Rle((120, 200), counts), (x, y, width, height))


def detection(shape: Mask | Outline, *, class_id: int = 0, name: str = "dog") -> Detection:
    if isinstance(shape, Mask):
        x, y, width, height = shape.box
        corners = (x, y, x + width, y + height)
    else:
        xs, ys = zip(*shape.points, strict=True)
        corners = (min(xs), min(ys), max(xs), max(ys))
    return Detection("the-id", class_id, name, 0.875, tuple(map(float, corners)), shape)


SQUARE = detection(whole(20, 30, 40, 40))
RING_POINTS = [[100, 30], [100, 69], [139, 69], [139, 30]]
OTHER = detection(Outline(RING_POINTS), class_id=1, name="cat")
BOTH = Detections(FRAME, (SQUARE, OTHER))


def block(kind: str, **fields: Any) -> Visualization:
    made = BLOCKS[f"roboflow_core/{kind}_visualization@v1"].model_validate(
        {
            "name": "draw",
            "type": f"roboflow_core/{kind}_visualization@v1",
            "image": "$inputs.image",
            "predictions": "$steps.sam.predictions",
            **fields,
        }
    )
    assert isinstance(made, Visualization)
    return made


def drawn(kind: str, detections: Detections = BOTH, **fields: Any) -> np.ndarray:
    """RGB, as integers."""
    made = draw(block(kind, **fields), picture(), detections, canvases=CANVASES)
    return made.pixels[:, :, ::-1].astype(int)


def changed(pixels: np.ndarray) -> np.ndarray:
    return (pixels != GREY).any(axis=2)


def test_polygons_are_outlines_in_the_colour_of_their_class() -> None:
    pixels = drawn("polygon")

    assert tuple(pixels[30, 40]) == PURPLE
    assert tuple(pixels[30, 120]) == RED
    assert not changed(pixels)[40:60, 30:50].any()
    assert not changed(pixels)[:, 150:].any()


def test_masks_are_mixed_with_the_image_by_their_opacity() -> None:
    pixels = drawn("mask", opacity=0.25)

    expected = [0.25 * part + 0.75 * GREY for part in PURPLE]
    assert pixels[50, 40] == pytest.approx(expected, abs=1)
    ys, xs = np.nonzero(changed(pixels)[:, :80])
    assert (xs.min(), xs.max(), ys.min(), ys.max()) == (20, 59, 30, 69)


def test_boxes_go_around_their_objects_and_can_be_round() -> None:
    square, rounded = drawn("bounding_box"), drawn("bounding_box", roundness=0.9)

    assert tuple(square[30, 20]) == PURPLE
    assert tuple(rounded[30, 20]) == (GREY, GREY, GREY)
    assert tuple(rounded[30, 40]) == PURPLE


def test_labels_stand_above_their_objects_with_text_of_the_asked_colour() -> None:
    pixels = drawn("label", text_scale=0.5, text_color="#010203", text_padding=2)

    above = pixels[10:29, 20:60].reshape(-1, 3)
    assert (above == PURPLE).all(axis=1).any()
    assert (np.abs(above - (1, 2, 3)).max(axis=1) < 40).any()


def test_colours_can_go_by_index_or_be_the_callers() -> None:
    twins = Detections(FRAME, (SQUARE, detection(OTHER.shape)))

    by_index = drawn("mask", twins, opacity=1, color_axis="INDEX")
    custom = drawn("mask", twins, opacity=1, color_palette="CUSTOM", custom_colors=["#0a0b0c"])

    assert tuple(by_index[50, 40]) == PURPLE
    assert tuple(by_index[50, 120]) == RED
    assert tuple(custom[50, 40]) == tuple(custom[50, 120]) == (10, 11, 12)


@pytest.mark.parametrize("name", PALETTES)
def test_every_palette_has_its_colours(name: str) -> None:
    colours = palette(
        block("mask", color_palette=name, palette_size=7, custom_colors=["#fff"])
    ).colors

    sizes = {"DEFAULT": 21, "CUSTOM": 1, "ROBOFLOW": 6}
    assert len(colours) == sizes.get(name, 7)
    assert name == "CUSTOM" or len(set(colours)) > 2


def test_palettes_begin_as_published() -> None:
    assert palette(block("mask")).colors[0].as_rgb() == PURPLE
    tab10 = palette(block("mask", color_palette="Matplotlib Tab10"))
    assert tab10.colors[0].as_rgb() == (31, 119, 180)
    viridis = palette(block("mask", color_palette="Matplotlib Viridis", palette_size=3))
    assert viridis.colors[0].as_rgb() == (68, 1, 84)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Class", "dog"),
        ("Confidence", "0.88"),
        ("Class and Confidence", "dog 0.88"),
        ("Index", "3"),
        ("Dimensions", "40, 50 40x40"),
        ("Area", "1600"),
        ("Tracker Id", "No Tracker ID"),
        ("Time In Zone", "In zone: N/A"),
    ],
)
def test_labels_say_what_is_asked(text: LabelText, expected: str) -> None:
    assert label_text(text, 3, SQUARE) == expected


@pytest.mark.parametrize("position", LabelPosition.__args__)  # type: ignore[attr-defined]
def test_labels_can_stand_anywhere(position: str) -> None:
    assert changed(drawn("label", text_position=position, border_radius=5)).any()


@pytest.mark.parametrize("kind", ["polygon", "mask", "bounding_box", "label"])
def test_without_detections_a_drawing_is_the_image(kind: str) -> None:
    assert not changed(drawn(kind, Detections(FRAME, ()))).any()


@pytest.mark.parametrize("kind", ["polygon", "mask", "bounding_box", "label"])
def test_the_image_that_is_drawn_on_stays_as_it_is(kind: str) -> None:
    image = picture()

    draw(block(kind, copy_image=False), image, BOTH, canvases=CANVASES)

    assert (image.pixels == GREY).all()


def test_what_was_found_in_a_crop_is_drawn_at_its_place() -> None:
    within = FRAME.crop("crop", x=50, y=10, width=100, height=100)
    found = Detections(FRAME, (OTHER,)).seen_from(within)

    np.testing.assert_array_equal(drawn("mask", found), drawn("mask", Detections(FRAME, (OTHER,))))


def test_detections_of_another_image_keep_their_coordinates() -> None:
    elsewhere = Detections(Frame.whole("other", **SIZE), BOTH.found)

    np.testing.assert_array_equal(drawn("mask", elsewhere), drawn("mask", BOTH))


def test_masks_are_cut_where_a_frame_ends_and_may_vanish() -> None:
    half = FRAME.crop("half", x=40, y=0, width=20, height=50)
    beside = FRAME.crop("beside", x=0, y=0, width=10, height=10)

    cut = Detections(FRAME, (SQUARE,)).seen_from(half).found[0].shape
    gone = Detections(FRAME, (SQUARE,)).seen_from(beside)

    assert isinstance(cut, Mask)
    assert cut.box == (0, 30, 20, 20)
    assert cut.rle.size == (50, 20)
    assert gone.found[0].shape.region().pixels.size == 0
    small = MadePicture("image", np.full((10, 10, 3), GREY, np.uint8), beside)
    assert (draw(block("mask"), small, gone, canvases=CANVASES).pixels == GREY).all()


@pytest.mark.parametrize("shape", [SQUARE, OTHER])
def test_a_crop_of_an_object_can_lose_its_background(shape: Detection) -> None:
    crop_block = DynamicCrop.model_validate(
        {
            "name": "crop",
            "type": "Crop",
            "images": "$inputs.image",
            "detections": "$steps.sam.predictions",
            "mask_opacity": 0.5,
            "background_color": "(200, 0, 0)",
        }
    )
    x0, y0, x1, y1 = shape.corners
    larger = (x0 - 10, y0, x1, y1)
    moved = Detection("id", 0, "dog", 0.5, larger, shape.shape)

    found = Detections(FRAME, (moved,))
    (crop,) = dynamic_crops(crop_block, picture(), found, canvases=CANVASES)

    assert crop is not None
    pixels = crop.picture.pixels[:, :, ::-1]
    assert pixels.shape[1] == larger[2] - larger[0]
    assert (pixels[:, :10] == (150, 50, 50)).all()
    assert (pixels[:, 10:] == GREY).all()


def test_a_drawing_too_long_for_jpeg_is_refused_by_name() -> None:
    frame = Frame.whole("image.[2]", width=70_000, height=1)
    made = MadePicture("image.[2]", np.zeros((1, 70_000, 3), np.uint8), frame)

    with pytest.raises(Exception, match="65500") as caught:
        made.as_json()

    assert "`image.[2]`" in str(caught.value)


def test_of_a_long_name_the_beginning_is_drawn() -> None:
    lines = label_text("Class", 0, detection(SQUARE.shape, name="dog\n" * 1000))
    line = label_text("Class", 0, detection(SQUARE.shape, name="d" * 4096))

    assert lines == "\n".join(["dog"] * 8)
    assert line == "d" * 256


def test_a_background_fades_as_much_as_is_asked_for() -> None:
    crop_block = DynamicCrop.model_validate(
        {"name": "crop", "type": "Crop", "images": "$inputs.image"}
        | {"detections": "$steps.sam.predictions", "mask_opacity": 0.3}
        | {"background_color": [10, 20, 255]}
    )
    pixels = np.random.default_rng(0).integers(0, 256, (120, 200, 3), np.uint8)
    image = MadePicture("image", pixels, FRAME)
    nothing = Detection("id", 0, "dog", 0.5, (0.0, 0.0, 200.0, 120.0), whole(0, 0, 1, 1))

    (crop,) = dynamic_crops(crop_block, image, Detections(FRAME, (nothing,)), canvases=CANVASES)

    assert crop is not None
    expected = (pixels * 0.7 + np.array([255, 20, 10]) * 0.3).round().astype(np.uint8)
    expected[0, 0] = pixels[0, 0]
    np.testing.assert_array_equal(crop.picture.pixels, expected)
