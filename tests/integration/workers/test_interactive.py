"""Requests through a real broker to a real Celery worker with the demo network."""

import asyncio
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from json import loads
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr

from domain.interactive import (
    Asked,
    ConceptAsked,
    ConceptRequest,
    EmbedRequest,
    ImageAsked,
    ObjectAsked,
    PointAsked,
    VisualRequest,
)
from maskmill.embedded.postgres import PostgresServer
from maskmill.embedded.valkey import ValkeyServer
from maskmill.sample_scenes import draw_scene
from storage.lane import Answer, FrontLane
from storage.lane.errors import LaneSilent
from storage.settings import Settings
from tests.integration.storage.lanes import lane_settings, run, started
from tests.services import REPOSITORY, fresh_database, wait_until

COMMAND = (
    *(sys.executable, "-m", "celery", "-A", "workers.celery_app", "worker", "--pool=threads"),
    *("-c", "8", "-Q", "interactive", "--without-mingle", "--without-gossip"),
)
SCENE = draw_scene(3, size=256)
PICTURE = SCENE.encoded("PNG")


@dataclass
class Worker:
    settings: Settings
    log: Path
    process: "subprocess.Popen[bytes]" = field(init=False)

    def start(self) -> None:
        environment = {
            **{key: value for key, value in os.environ.items() if "MASKMILL_" not in key},
            "MASKMILL_DATABASE_URL": self.settings.database_url.get_secret_value(),
            "MASKMILL_BROKER_URL": self.settings.broker_url.get_secret_value(),
            "MASKMILL_OBJECT_STORE": self.settings.object_store,
            "MASKMILL_SIGNING_SECRET": "secret",
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                COMMAND, cwd=REPOSITORY, env=environment, stdout=log, stderr=log
            )

    def wait_until_it_lives(self) -> None:
        wait_until(self._lives, seconds=120)

    def _lives(self) -> bool:
        try:
            return self.counts()["workers"] > 0
        except LaneSilent:  # a machine that is busy starting it
            return False

    def counts(self) -> dict[str, int]:
        assert self.process.poll() is None, self.log.read_text()
        return run(_counts(self.settings))

    def ask(self, *asked: Asked, files: tuple[bytes, ...] = (), key_id: str = "key_1") -> Answer:
        return self.ask_all(*asked, files=files, key_id=key_id)[0]

    def ask_all(
        self, *asked: Asked, files: tuple[bytes, ...] = (), key_id: str = "key_1"
    ) -> list[Answer]:
        """All at the same time."""

        async def work() -> list[Answer]:
            async with started(self.settings) as [front]:
                asking = (front.ask(one, key_id=key_id, files=files) for one in asked)
                return await asyncio.gather(*asking)

        return run(work())

    def clear(self, key_id: str) -> None:
        async def work() -> None:
            async with started(self.settings) as [front]:
                await front.clear(key_id)

        run(work())


async def _counts(settings: Settings) -> dict[str, int]:
    front = FrontLane(settings)
    found = await front.counts()
    await front.stop()
    return found


@pytest.fixture(scope="module")
def worker(
    postgres_server: PostgresServer,
    migrated_template: str,
    valkey_server: ValkeyServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Worker]:
    folder = tmp_path_factory.mktemp("interactive")
    for database_url in fresh_database(postgres_server, template=migrated_template):
        settings = lane_settings(valkey_server.url).model_copy(
            update={
                "database_url": SecretStr(database_url),
                "object_store": f"file://{folder}/objects",
            }
        )
        worker = Worker(settings, folder / "worker.log")
        worker.start()
        try:
            worker.wait_until_it_lives()
            yield worker
        finally:
            worker.process.send_signal(signal.SIGTERM)
            status = worker.process.wait(timeout=30)
        assert status == 0


def body(answer: Answer, *, status: int = 200) -> Any:
    assert (answer.status, answer.media_type) == (status, "application/json"), answer.body
    return loads(answer.body)


def concept(
    image: ImageAsked, *texts: str, threshold: float = 0.5, **changed: Any
) -> ConceptRequest:
    return ConceptRequest(
        image=image,
        prompts=tuple(ConceptAsked(text=text, threshold=threshold) for text in texts),
        echoes=tuple({"prompt_index": n, "text": text} for n, text in enumerate(texts)),
        format=changed.pop("format", "rle"),
        **changed,
    )


def click(x: float, y: float, image: ImageAsked, **changed: Any) -> VisualRequest:
    prompt = ObjectAsked(points=(PointAsked(x=x, y=y, positive=True),))
    options: dict[str, Any] = {"multimask_output": True, "format": "rle", **changed}
    return VisualRequest(image=image, prompts=(prompt,), **options)


FILE = ImageAsked(file=0)


def test_what_is_drawn_is_found_under_its_name(worker: Worker) -> None:
    drawn = SCENE.objects[0]
    answer = body(worker.ask(concept(FILE, drawn.name, "zebra"), files=(PICTURE,)))
    first, second = answer["prompt_results"]
    assert first["prompt_index"] == 0
    assert first["echo"] == {"prompt_index": 0, "text": drawn.name}
    assert first["predictions"]
    assert first["predictions"][0]["masks"]["size"] == [256, 256]
    assert second["predictions"] == []
    assert 0 < answer["time"] < 30


def test_a_named_image_is_looked_at_once_whoever_asks_about_it_next(worker: Worker) -> None:
    named = ImageAsked(file=0, image_id="mine")
    assert body(worker.ask(EmbedRequest(image=named), files=(PICTURE,)))["image_id"] == "mine"
    before = worker.counts()
    x, y = SCENE.objects[0].centre
    answer = body(worker.ask(click(x, y, ImageAsked(image_id="mine"))))
    after = worker.counts()
    assert len(answer["predictions"]) == 1
    assert after.get("embedding_misses", 0) == before.get("embedding_misses", 0)
    assert after["embedding_hits"] > before.get("embedding_hits", 0)


def test_an_image_id_is_the_callers_own(worker: Worker) -> None:
    named = ImageAsked(file=0, image_id="private")
    body(worker.ask(EmbedRequest(image=named), files=(PICTURE,), key_id="key_1"))
    asked = click(1, 1, ImageAsked(image_id="private"))
    refused = body(worker.ask(asked, key_id="key_2"), status=404)
    assert "image_id" in refused["message"]


def test_a_cleared_key_has_no_images_any_more(worker: Worker) -> None:
    named = ImageAsked(file=0, image_id="passing")
    body(worker.ask(EmbedRequest(image=named), files=(PICTURE,), key_id="key_3"))
    worker.clear("key_3")
    body(worker.ask(click(1, 1, ImageAsked(image_id="passing")), key_id="key_3"), status=404)


def test_another_image_under_the_same_id_takes_its_place(worker: Worker) -> None:
    other = draw_scene(5, size=300).encoded("PNG")
    for picture, side in ((PICTURE, 256), (other, 300)):
        named = ImageAsked(file=0, image_id="changing")
        body(worker.ask(EmbedRequest(image=named), files=(picture,)))
        answer = body(worker.ask(click(9, 9, ImageAsked(image_id="changing"))))
        assert answer["predictions"][0]["masks"]["size"] == [side, side]


def test_without_an_id_the_pixels_name_the_image(worker: Worker) -> None:
    asked = EmbedRequest(image=FILE)
    first, again = (body(worker.ask(asked, files=(PICTURE,)))["image_id"] for _ in range(2))
    assert first == again
    assert len(bytes.fromhex(first)) == 20
    body(worker.ask(click(9, 9, ImageAsked(image_id=first))))


def test_binary_masks_are_those_of_the_other_formats(worker: Worker) -> None:
    from pycocotools import mask as coco

    x, y = SCENE.objects[0].centre
    rle = body(worker.ask(click(x, y, FILE), files=(PICTURE,)))["predictions"][0]["masks"]
    answer = worker.ask(click(x, y, FILE, format="binary"), files=(PICTURE,))
    assert answer.media_type == "application/octet-stream"
    found = np.load(io.BytesIO(answer.body))
    assert (found["masks"].shape, found["masks"].dtype) == ((1, 256, 256), np.dtype(bool))
    assert (found["masks"][0] == coco.decode(rle)).all()
    assert found["low_res_masks"].ndim == 3
    assert found["masks"][0][int(y), int(x)]


def test_kept_logits_change_the_answer_to_more_points_and_to_nothing_else(
    worker: Worker,
) -> None:
    x, y = SCENE.objects[0].centre
    image = ImageAsked(file=0)
    points = (PointAsked(x=x, y=y, positive=True), PointAsked(x=x + 2, y=y, positive=True))

    def asked(count: int, **flags: bool) -> VisualRequest:
        return click(x, y, image, **flags).model_copy(
            update={"prompts": (ObjectAsked(points=points[:count]),)}
        )

    def score(request: VisualRequest) -> float:
        answer = body(worker.ask(request, files=(PICTURE,), key_id="key_refine"))
        confidence: float = answer["predictions"][0]["confidence"]
        return confidence

    alone = score(asked(2))
    assert score(asked(2, load_logits=True)) == alone, "nothing is kept yet"
    first = score(asked(1, save_logits=True))
    assert score(asked(2, load_logits=True)) != alone
    assert score(asked(1, load_logits=True)) == first, "no strict subset of one point"


def test_an_image_that_is_none_is_refused_in_the_words_of_the_api(worker: Worker) -> None:
    for origin, cause in (
        ("base64", "Malformed base64 input image."),
        ("url", "Data is not image."),
    ):
        image = ImageAsked.model_validate({"file": 0, "origin": origin})
        answer = worker.ask(EmbedRequest(image=image), files=(b"no image",))
        assert body(answer, status=400) == {
            "message": f"Could not load input image. Cause: {cause}"
        }


def test_what_goes_wrong_inside_is_not_told(worker: Worker) -> None:
    answer = worker.ask(EmbedRequest(image=ImageAsked(file=7)), files=(PICTURE,))
    assert body(answer, status=500) == {"message": "Internal error."}
    assert "IndexError" in worker.log.read_text()
    assert b"IHDR" not in worker.log.read_bytes(), "no bytes of an image"


def test_many_at_once_are_all_answered_each_with_its_own(worker: Worker) -> None:
    requests = [click(*SCENE.objects[n % len(SCENE.objects)].centre, FILE) for n in range(16)]
    answers = [body(one) for one in worker.ask_all(*requests, files=(PICTURE,))]
    masks = [answer["predictions"][0]["masks"] for answer in answers]
    assert all(mask == masks[n % len(SCENE.objects)] for n, mask in enumerate(masks))
    assert len({mask["counts"] for mask in masks}) == len(SCENE.objects)


def test_another_worker_looks_at_the_kept_image_again(worker: Worker) -> None:
    """The last test, as it replaces the worker."""
    named = ImageAsked(file=0, image_id="survivor")
    body(worker.ask(EmbedRequest(image=named), files=(PICTURE,)))
    worker.process.kill()
    worker.process.wait()
    wait_until(lambda: run(_counts(worker.settings))["workers"] == 0, seconds=10)
    worker.start()
    worker.wait_until_it_lives()
    answer = body(worker.ask(click(*SCENE.objects[0].centre, ImageAsked(image_id="survivor"))))
    assert len(answer["predictions"]) == 1
