from collections.abc import Iterator

import pytest

from tests.unit.workers.interactive.workflows import MAX_PIXELS
from workers.engine import load_engine
from workers.interactive.segmenter import Segmenter


@pytest.fixture(scope="session")
def segmenter() -> Iterator[Segmenter]:
    """Of the demo network."""
    engine = load_engine("demo-sam3", device="cpu")
    segmenter = Segmenter(engine, max_pixels=MAX_PIXELS, device_bytes=10**8, host_bytes=0)
    yield segmenter
    segmenter.close()
