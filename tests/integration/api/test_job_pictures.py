"""GET /v1/jobs/{job_id}/images/{image_index}/picture: real files, decoded within bounds."""

import threading
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from api.images import pictures
from api.images.memory import Room
from domain.documents import NewItem
from storage import object_keys
from storage.datasets import add_dataset
from storage.object_store import open_store
from tests.integration.api.conftest import Api
from tests.integration.api.labelled import plan


def file_of(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    out = BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def scene(width: int = 400, height: int = 200) -> Image.Image:
    """Red on the left, blue on the right."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0] = 255
    pixels[:, width // 2 :, 2] = 255
    return Image.fromarray(pixels)


def job_with(api: Api, files: list[bytes | None], uris: list[str] | None = None) -> str:
    """A job whose first images are these files of the store; None: gone since."""
    job_id = str(api.create_job()["id"])
    uris = uris or [f"object:datasets/x/{n}" for n in range(len(files))]
    store = open_store(api.settings.object_store, settings=api.settings)
    for uri, content in zip(uris, files, strict=False):
        if content is not None:
            store.put(uri.removeprefix("object:"), content)
    plan(api, job_id, images=len(uris))
    lines = [NewItem(n, f"{n}.png", uri).to_line() for n, uri in enumerate(uris)]
    store.put(object_keys.shard_list(job_id, 0, token=0), b"\n".join(lines))
    return job_id


def picture(api: Api, job_id: str, number: int = 0, **options: Any) -> Any:
    return api.as_alice("GET", f"/v1/jobs/{job_id}/images/{number}/picture", **options)


def shown(answer: Any) -> Image.Image:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/jpeg"
    return Image.open(BytesIO(answer.content))


def refused(answer: Any) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF"])
def test_a_picture_is_a_small_jpeg_whatever_the_file_is(api: Api, kind: str) -> None:
    job_id = job_with(api, [file_of(scene(), kind)])
    for side, size in ((64, (64, 32)), (100, (100, 50)), (4096, (400, 200))):
        image = shown(picture(api, job_id, params={"longest_side": side}))
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", size)
        left, right = (image.getpixel((x, size[1] // 2)) for x in (size[0] // 4, 3 * size[0] // 4))
        assert left[0] > 200 > 60 > left[2]
        assert right[2] > 200 > 60 > right[0]


@pytest.mark.parametrize(("orientation", "red"), [(3, (90, 25)), (6, (25, 10)), (8, (25, 90))])
@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "PNG"])
def test_a_picture_is_upright_and_tells_nothing_else_of_the_file(
    api: Api, kind: str, orientation: int, red: tuple[int, int]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "a camera of somebody's"
    job_id = job_with(api, [file_of(scene(), kind, exif=exif)])
    answer = picture(api, job_id, params={"longest_side": 100})
    image = shown(answer)
    assert image.size == ((100, 50) if orientation == 3 else (50, 100))
    assert image.getpixel(red)[0] > 200  # type: ignore[index]
    assert not image.getexif()
    assert b"camera" not in answer.content


def test_a_browser_keeps_it_for_one_key_and_asks_with_its_tag(api: Api) -> None:
    job_id = job_with(api, [file_of(scene())])
    first = picture(api, job_id)
    assert first.headers["cache-control"] == "private, max-age=3600"
    assert first.headers["vary"] == "Authorization, Cookie"
    assert first.headers["x-content-type-options"] == "nosniff"
    assert first.headers["cross-origin-resource-policy"] == "same-origin"
    tag = {"If-None-Match": first.headers["etag"]}
    again = picture(api, job_id, headers=tag)
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert picture(api, job_id, headers=tag, params={"longest_side": 64}).status_code == 200
    store = open_store(api.settings.object_store, settings=api.settings)
    store.put("datasets/x/0", file_of(scene(300, 300)))
    assert shown(picture(api, job_id, headers=tag)).size == (300, 300)


def test_what_cannot_be_had_or_shown_has_the_code_of_an_image(api: Api, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(file_of(scene()))
    uris = [
        "object:datasets/x/gone",
        "object:datasets/x/text",
        "object:datasets/x/eps",
        "object:datasets/x/cut",
        "object:datasets/x/empty",
        "s3://elsewhere/a.png",
        "http://127.0.0.1:1/a.png",
        "https://169.254.169.254/latest",
        f"local:{tmp_path}/secret.png",
        f"file://{tmp_path}/secret.png",
    ]
    files = [
        None,
        b"<svg onload=alert(1)>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
        file_of(scene())[:200],
        b"",
    ]
    job_id = job_with(api, files, uris)
    answers = [refused(picture(api, job_id, number)) for number in range(len(uris))]
    assert answers == [
        (404, "not_found"),
        (415, "unsupported"),
        (415, "unsupported"),
        (415, "decode_error"),
        (415, "unsupported"),
        *[(502, "forbidden")] * 5,
    ]


def test_a_file_of_more_bytes_than_jobs_may_read_is_not_read(api: Api) -> None:
    job_id = job_with(api, [file_of(scene())])
    sources = api.client.app.state.context.sources  # type: ignore[attr-defined]
    usual, sources._max_image_bytes = sources._max_image_bytes, 100
    assert refused(picture(api, job_id)) == (415, "too_large")
    sources._max_image_bytes = usual
    assert picture(api, job_id).status_code == 200


def test_a_file_that_claims_too_many_pixels_is_not_decoded(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a progressive JPEG all coefficients are kept, however small a part is wanted."""
    small, large = (
        file_of(Image.new("RGB", (side, side)), "JPEG", progressive=True) for side in (500, 1000)
    )
    job_id = job_with(api, [small, large, file_of(Image.new("P", (600, 600)))])
    monkeypatch.setattr(pictures, "_DECODING_BYTES", 500 * 500 * 16)
    assert picture(api, job_id, 0).status_code == 200
    monkeypatch.setattr(pictures, "read_picture", pytest.fail)
    assert refused(picture(api, job_id, 1)) == (415, "too_large")
    assert refused(picture(api, job_id, 2)) == (415, "too_large")


def test_images_that_the_job_does_not_have_or_no_longer(api: Api) -> None:
    job_id = job_with(api, [file_of(scene())])
    for number in (1, 10**6, 2**62 - 1):
        assert refused(picture(api, job_id, number)) == (404, "image_not_found")
    assert picture(api, job_id, "-1").status_code == 422  # type: ignore[arg-type]
    store = open_store(api.settings.object_store, settings=api.settings)
    store.delete([object_keys.shard_list(job_id, 0, token=0)])
    assert refused(picture(api, job_id)) == (404, "image_not_found")
    assert refused(picture(api, "job_" + "0" * 26)) == (404, "not_found")


@pytest.mark.parametrize("side", ["63", "4097", "-1", "large", "1e3"])
def test_sides_have_bounds(api: Api, side: str) -> None:
    job_id = job_with(api, [file_of(scene())])
    assert picture(api, job_id, params={"longest_side": side}).status_code == 422


def test_images_of_a_linked_folder_are_shown_and_nothing_beside_it(
    api: Api, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.png").write_bytes(file_of(scene()))
    (tmp_path / "b.png").write_bytes(file_of(scene()))
    (folder / "link.png").symlink_to(tmp_path / "b.png")
    job_id = job_with(api, [], ["local:a.png", "local:../b.png", "local:link.png"])
    with api.database.begin() as connection:
        dataset = add_dataset(connection, api.alice_id, name="x", local_root=str(folder))
        source = f'{{"type": "dataset", "id": "{dataset.id}"}}'
        connection.exec_driver_sql(f"UPDATE jobs SET source = '{source}'")
    assert shown(picture(api, job_id, 0)).size == (320, 160)
    assert refused(picture(api, job_id, 1)) == (502, "forbidden")
    assert refused(picture(api, job_id, 2)) == (502, "forbidden")


def test_when_many_wait_others_are_told_to_come_again(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slow sources hold up pictures, and nothing else."""
    job_id = job_with(api, [file_of(scene())])
    context = api.client.app.state.context  # type: ignore[attr-defined]
    files = context.pictures._files
    usual, go_on, begun = files.read, threading.Event(), threading.Semaphore(0)

    def slow(*args: Any, **named: Any) -> Any:
        begun.release()
        go_on.wait(30)
        return usual(*args, **named)

    monkeypatch.setattr(files, "read", slow)
    monkeypatch.setattr(context.pictures._turns, "_per_key", 6)
    with ThreadPoolExecutor(6) as callers:
        waiting = [callers.submit(picture, api, job_id) for _ in range(6)]
        for _ in range(4):
            assert begun.acquire(timeout=30)
        assert not begun.acquire(timeout=0.2)  # four at a time
        refusal = picture(api, job_id)
        assert refused(refusal) == (503, "too_busy")
        assert int(refusal.headers["retry-after"]) > 0
        assert api.as_alice("GET", "/v1/jobs").status_code == 200
        go_on.set()
        assert {one.result().status_code for one in waiting} == {200}
    assert picture(api, job_id).status_code == 200


def test_who_waits_for_too_long_is_told_to_come_again(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = job_with(api, [file_of(scene())])
    context = api.client.app.state.context  # type: ignore[attr-defined]
    go_on = threading.Event()
    monkeypatch.setattr(context.pictures._turns, "_seconds", 0.2)
    monkeypatch.setattr(context.pictures._files, "read", lambda *_, **__: go_on.wait(30))
    assert refused(picture(api, job_id)) == (503, "too_busy")
    go_on.set()


def test_room_is_given_to_as_many_as_fit_and_to_a_large_one_alone() -> None:
    room, order = Room(10), []

    def take(size: int) -> None:
        with room.taken(size):
            order.append(size)

    with ThreadPoolExecutor(2) as pool:
        with room.taken(6):
            pool.submit(take, 4).result(5)
            large = pool.submit(take, 99)
            with pytest.raises(TimeoutError):
                large.result(0.1)
            pool.submit(take, 3).result(5)
            assert not large.done()
        large.result(5)
    assert order == [4, 3, 99]
