"""Images of which 50 are bad: the others are labelled, and 50 say why not. 800 in all; `make
test-slow` takes 2,000."""

import os
import struct
import zlib
from collections import Counter
from io import BytesIO
from itertools import cycle, islice
from pathlib import Path

import pytest
from PIL import Image

from maskmill.client import dataset_source
from maskmill.sample_scenes import draw_scene
from tests.acceptance.conftest import Service, exactly_once
from tests.canary import Canary

BAD = 50
GOOD_FOR_EACH = int(os.environ.get("GOOD_IMAGES_FOR_EACH_BAD", "15"))
GOOD = BAD * GOOD_FOR_EACH

pytestmark = pytest.mark.xdist_group("service")  # they share a stack


def bomb() -> bytes:
    """A PNG whose header claims 40,000 x 30,000 pixels and that holds none."""
    header = struct.pack(">IIBBBBB", 40_000, 30_000, 8, 2, 0, 0, 0)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    data = chunk(b"IDAT", zlib.compress(b"\0"))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


def small_scene(seed: int) -> bytes:
    out = BytesIO()
    draw_scene(seed, size=128).image.save(out, "JPEG")
    return out.getvalue()


def broken(content: bytes) -> bytes:
    """A PNG whose compressed pixels are garbage."""
    out = BytesIO()
    Image.open(BytesIO(content)).save(out, "PNG")
    png = bytearray(out.getvalue())
    start = png.index(b"IDAT") + 4
    png[start : start + 60] = b"\xff" * 60
    return bytes(png)


def test_each_bad_image_gets_its_code_and_the_others_their_masks(
    service: Service, tmp_path: Path, canary: Canary
) -> None:
    scenes = [small_scene(seed) for seed in range(20)]
    names = [f"good/{number:04d}.jpg" for number in range(GOOD)]
    (tmp_path / "good").mkdir()
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(scenes[number % len(scenes)])
    contents = {
        "truncated.jpg": (scenes[0][: len(scenes[0]) // 2], "truncated"),
        "empty.jpg": (b"", "truncated"),
        "text.jpg": (b"hello, I am no image\n" * 20, "unsupported"),
        "bomb.png": (bomb(), "too_large"),
        "broken.png": (broken(scenes[0]), "decode_error"),
    }
    for name, (content, _) in contents.items():
        (tmp_path / name).write_bytes(content)
    expected = {name: code for name, (_, code) in contents.items()}
    expected |= {
        "missing.jpg": "not_found",
        "file:///etc/passwd": "forbidden",
        "http://169.254.169.254/latest/meta-data": "forbidden",
        f"http://127.0.0.1:{canary.port}/x.jpg": "forbidden",
        f"http://localhost:{canary.port}/x.jpg": "forbidden",
        "s3://another-bucket/x.jpg": "forbidden",
        "../outside.jpg": "forbidden",
        "sub/../../outside.jpg": "forbidden",
        "object:jobs/x": "forbidden",
    }
    bad = list(islice(cycle(expected), BAD))
    good = [names[n::BAD] for n in range(BAD)]
    lines = [line for n in range(BAD) for line in (*good[n], bad[n])]
    (tmp_path / "list.txt").write_text("\n".join(lines))

    source = dataset_source(service.link(tmp_path), manifest="list.txt")
    job = service.finish(service.client.create_job(source, ["red circle"]), seconds=360)

    assert (job.status, job.counts.succeeded, job.counts.failed) == ("succeeded", GOOD, BAD)
    rows = service.images(job)
    exactly_once(rows, GOOD + BAD)
    assert [row.image for row in rows] == lines
    found = Counter((e.image, e.code) for e in service.client.errors(job.id))
    assert found == Counter((image, expected[image]) for image in bad)
