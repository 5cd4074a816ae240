"""Label Studio's own decoder, labelling config and converter."""

import json
from typing import Any

import numpy as np
import pytest
from label_studio_sdk.converter.brush import decode_rle
from label_studio_sdk.label_interface import LabelInterface

from domain.exports import ExportFormat
from domain.formats.label_studio import write_label_studio
from tests.unit.domain.hard_masks import FolderSink, hard_source, pixels


def tasks(sink: FolderSink) -> list[dict[str, Any]]:
    return json.loads((sink.folder / "tasks-00000.json").read_bytes())


def test_brush_masks_come_back_to_the_pixel(sink: FolderSink) -> None:
    source = hard_source(ExportFormat.LABEL_STUDIO)
    write_label_studio(source, sink)
    for image, task in zip(source.shown(), tasks(sink), strict=True):
        for shown, region in zip(image.instances, task["predictions"][0]["result"], strict=True):
            channels = decode_rle(region["value"]["rle"])
            alpha = np.reshape(channels, (image.height, image.width, 4))[:, :, 3]
            assert np.array_equal(alpha, 255 * pixels(shown.mask))


@pytest.mark.parametrize("geometry", ["rle", "polygon"])
def test_tasks_and_predictions_fit_the_labelling_config(sink: FolderSink, geometry: str) -> None:
    names = {"star": '<"star"> & more'}
    source = hard_source(ExportFormat.LABEL_STUDIO, geometry=geometry, classes=names)
    write_label_studio(source, sink)
    config = LabelInterface((sink.folder / "label-config.xml").read_text())
    config.validate()
    for task in tasks(sink):
        assert config.validate_task({"data": task["data"]})
        for prediction in task["predictions"]:
            assert not config.validate_prediction(prediction, return_errors=True)
