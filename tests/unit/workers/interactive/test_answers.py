"""Rules on what the network says: thresholds, echo, order, words of refusal. The demo network and
the broker have their own test (tests/integration/workers/test_interactive.py)."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from json import dumps, loads
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco

from domain.annotations import Rle
from domain.errors import ImageError, ImageErrorCode
from domain.interactive import (
    ConceptAsked,
    ConceptRequest,
    EmbedRequest,
    ImageAsked,
    ObjectAsked,
    PointAsked,
    VisualRequest,
)
from domain.prompts import ConceptPrompt
from storage.lane import Kept
from workers.engine.engine import Embedding, Pointed
from workers.interactive import answers as answers_module
from workers.interactive import earlier_masks
from workers.interactive.answers import Answers, Reply
from workers.interactive.deadlines import NEVER
from workers.interactive.earlier_masks import EarlierMasks
from workers.interactive.images import Images
from workers.interactive.segmenter import SeenImage, SegmentedMask

SIDE = 16
FILE = ImageAsked(file=0)


class MemoryShelf:
    """Stands for storage.lane's, without limits."""

    def __init__(self) -> None:
        self.things: dict[tuple[str, str], Kept] = {}
        self.read: list[str] = []

    def put(self, owner: str, name: str, *, mark: str, data: bytes) -> None:
        self.things[owner, name] = Kept(mark, data)

    def mark(self, owner: str, name: str) -> str | None:
        kept = self.get(owner, name)
        return kept and kept.mark

    def get(self, owner: str, name: str) -> Kept | None:
        self.read.append(name)
        return self.things.get((owner, name))

    def names(self, owner: str) -> list[str]:
        self.read.append("names")
        return [name for its, name in self.things if its == owner]


@dataclass
class Says:
    """A segmenter that says what it is told to, with real masks, and notes what it was asked."""

    scores: Sequence[tuple[int, float]] = ()
    error: ImageError | None = None
    side: int = SIDE
    deadlines: list[float] = field(default_factory=list)
    floors: list[float] = field(default_factory=list)
    concepts_asked: list[ConceptPrompt] = field(default_factory=list)
    objects_asked: list[Pointed] = field(default_factory=list)

    def see(self, owner: str, data: bytes, *, deadline: float) -> SeenImage:
        self.deadlines.append(deadline)
        if self.error:
            raise self.error
        side = self.side
        return SeenImage(f"digest {data!r}", "5ha1", side, side, Embedding(None))  # type: ignore

    def recall(self, owner: str, digest: str) -> SeenImage | None:
        return None

    def concepts(
        self, image: SeenImage, prompts: Sequence[ConceptPrompt], *, floor: float, deadline: float
    ) -> list[SegmentedMask]:
        self.deadlines.append(deadline)
        self.floors.append(floor)
        self.concepts_asked.extend(prompts)
        return [_mask(prompt, score) for prompt, score in self.scores]

    def objects(
        self, image: SeenImage, prompts: Sequence[Pointed], *, deadline: float
    ) -> list[SegmentedMask]:
        self.deadlines.append(deadline)
        self.objects_asked.extend(prompts)
        return [
            _mask(place, 0.5, logits=np.full((4, 3), len(prompt.points), np.float32))
            for place, prompt in enumerate(prompts)
        ]


def _mask(prompt: int, score: float, *, logits: np.ndarray | None = None) -> SegmentedMask:
    pixels = np.zeros((SIDE, SIDE), np.uint8, order="F")
    pixels[2:6, 3:9] = 1
    rle = Rle((SIDE, SIDE), coco.encode(pixels)["counts"])
    return SegmentedMask(prompt, score, rle, (3.0, 2.0, 6.0, 4.0), 24, logits)


@dataclass
class Bench:
    says: Says
    shelf: MemoryShelf = field(default_factory=MemoryShelf)

    def answer(self, asked: Any, *, status: int = 200, owner: str = "me") -> Any:
        reply = self.reply(asked, owner=owner, deadline=time.monotonic() + 60)
        assert reply.status == status, reply.body
        return loads(reply.body)

    def reply(self, asked: Any, *, owner: str = "me", deadline: float) -> Reply:
        answers = Answers(
            self.says,  # type: ignore[arg-type]
            Images(self.says, self.shelf),  # type: ignore[arg-type]
            EarlierMasks(self.shelf),  # type: ignore[arg-type]
            max_pixels=10_000,
        )
        return answers.answer(asked, files=[b"file"], owner=owner, deadline=deadline)


def concept(*thresholds: float, **changed: Any) -> ConceptRequest:
    asked: dict[str, Any] = {
        "image": FILE,
        "prompts": [ConceptAsked(text="dog", threshold=value) for value in thresholds],
        "echoes": [{"prompt_index": n} for n in range(len(thresholds))],
        "format": "polygon",
        **changed,
    }
    return ConceptRequest(**asked)


def confidences(answer: Any) -> list[list[float]]:
    return [[p["confidence"] for p in one["predictions"]] for one in answer["prompt_results"]]


def float32(value: float) -> float:
    return float(np.float32(value))


def test_a_low_threshold_of_one_prompt_does_not_leak_to_another() -> None:
    bench = Bench(Says([(0, 0.3), (0, 0.95), (1, 0.3)]))
    assert confidences(bench.answer(concept(0.9, 0.1))) == [[0.95], [0.3]]
    assert bench.says.floors == [0.1]


@pytest.mark.parametrize("nms", [None, 1.0])
@pytest.mark.parametrize("threshold", [0.95, 0.1, 0.7])
def test_a_score_that_equals_its_threshold_is_kept(threshold: float, nms: float | None) -> None:
    bench = Bench(Says([(0, float32(threshold)), (0, float32(threshold) - 1e-3)]))
    answer = bench.answer(concept(threshold, nms_iou_threshold=nms))
    assert confidences(answer) == [[float32(threshold)]]


def test_predictions_stay_in_the_networks_order_also_under_nms() -> None:
    bench = Bench(Says([(0, 0.5), (0, 0.9), (1, 0.7)]))
    assert confidences(bench.answer(concept(0.1, 0.1))) == [[0.5, 0.9], [0.7]]
    answer = bench.answer(concept(0.1, 0.1, nms_iou_threshold=0.5))
    assert confidences(answer) == [[0.9], []]


def test_of_equal_scores_the_earlier_prompt_keeps_the_mask() -> None:
    bench = Bench(Says([(0, 0.9), (1, 0.9)]))
    answer = bench.answer(concept(0.1, 0.1, nms_iou_threshold=0.5))
    assert confidences(answer) == [[0.9], []]


def test_thresholds_come_before_nms() -> None:
    """What its prompt does not count suppresses nothing."""
    bench = Bench(Says([(0, 0.8), (1, 0.7)]))
    answer = bench.answer(concept(0.9, 0.5, nms_iou_threshold=0.5))
    assert confidences(answer) == [[], [0.7]]


def test_every_prompt_has_its_result_with_its_echo() -> None:
    echoes = ({"type": "text", "text": "dog"}, {"type": "visual", "text": None})
    answer = Bench(Says()).answer(concept(0.5, 0.5, echoes=echoes))
    assert answer["prompt_results"] == [
        {"prompt_index": 0, "echo": echoes[0], "predictions": []},
        {"prompt_index": 1, "echo": echoes[1], "predictions": []},
    ]
    assert answer["time"] > 0


def test_formats_are_those_that_were_asked_for() -> None:
    bench = Bench(Says([(0, 0.9)]))
    polygon = bench.answer(concept(0.5))["prompt_results"][0]["predictions"][0]
    rle = bench.answer(concept(0.5, format="rle"))["prompt_results"][0]["predictions"][0]
    assert polygon == {
        "masks": [[[3, 2], [3, 5], [8, 5], [8, 2]]],
        "confidence": 0.9,
        "format": "polygon",
    }
    assert (rle["format"], rle["masks"]["size"]) == ("rle", [SIDE, SIDE])


def test_blank_text_is_read_as_visual_and_boxes_are_passed_on() -> None:
    bench = Bench(Says())
    prompt = ConceptAsked(text=" ", boxes=((1, 2, 3, 4),), box_labels=(False,), threshold=0.5)
    bench.answer(concept(0.5, prompts=[prompt]))
    [asked] = bench.says.concepts_asked
    assert (asked.text, asked.box_labels) == ("visual", (False,))
    assert (asked.boxes[0].x0, asked.boxes[0].y1) == (1, 4)


def visual(*points: tuple[float, float, bool], **changed: Any) -> VisualRequest:
    prompt = ObjectAsked(points=tuple(PointAsked(x=x, y=y, positive=p) for x, y, p in points))
    asked: dict[str, Any] = {
        "image": FILE,
        "prompts": [prompt],
        "multimask_output": True,
        "format": "rle",
        **changed,
    }
    return VisualRequest(**asked)


A, B, C = (1.0, 1.0, True), (2.0, 2.0, True), (3.0, 3.0, False)


def previous_of(bench: Bench, *points: tuple[float, float, bool], **changed: Any) -> Any:
    """How many points the mask had that refines this prompt, by what `Says` puts into it."""
    bench.answer(visual(*points, load_logits=True, **changed))
    previous = bench.says.objects_asked[-1].previous
    return None if previous is None else (previous.shape, previous[0, 0])


def save(bench: Bench, *points: tuple[float, float, bool], **changed: Any) -> None:
    bench.answer(visual(*points, save_logits=True, **changed))


def test_more_points_refine_the_mask_of_the_most_of_them() -> None:
    bench = Bench(Says())
    save(bench, A)
    save(bench, B, A)
    assert previous_of(bench, A, B, C) == ((4, 3), 2)
    assert previous_of(bench, A, C) == ((4, 3), 1)


def test_the_same_points_other_points_or_one_point_refine_nothing() -> None:
    bench = Bench(Says())
    save(bench, A)
    save(bench, B, C)
    assert previous_of(bench, B, C) is None
    assert previous_of(bench, B, (9.0, 9.0, True)) is None
    assert previous_of(bench, A) is None


def test_the_box_has_to_be_the_same() -> None:
    def boxed(*points: tuple[float, float, bool]) -> list[ObjectAsked]:
        [prompt] = visual(*points).prompts
        return [prompt.model_copy(update={"box": (0.0, 0.0, 5.0, 5.0)})]

    bench = Bench(Says())
    save(bench, A, prompts=boxed(A))
    assert previous_of(bench, A, B) is None
    assert previous_of(bench, A, B, prompts=boxed(A, B)) == ((4, 3), 1)


def test_masks_to_refine_are_the_owners_own_and_kept_only_when_asked() -> None:
    bench = Bench(Says())
    bench.answer(visual(A))
    assert bench.shelf.things == {}
    bench.answer(visual(A, save_logits=True), owner="you")
    assert previous_of(bench, A, B) is None


def test_several_prompts_are_all_answered_in_order() -> None:
    prompts = visual(A).prompts + visual(A, B).prompts + (ObjectAsked(),)
    bench = Bench(Says())
    assert len(bench.answer(visual(prompts=prompts))["predictions"]) == 3
    assert [len(asked.points) for asked in bench.says.objects_asked] == [1, 2, 0]


@pytest.mark.parametrize(
    ("code", "origin", "cause"),
    [
        ("decode_error", "base64", "Malformed base64 input image."),
        ("truncated", "base64", "Malformed base64 input image."),
        ("unsupported", "url", "Data is not image."),
        ("too_large", "url", "9 pixels, 4 allowed"),
        ("out_of_memory", "base64", "9 pixels, 4 allowed"),
    ],
)
def test_a_bad_image_is_refused_with_its_cause(code: str, origin: Any, cause: str) -> None:
    bench = Bench(Says(error=ImageError(ImageErrorCode(code), "9 pixels, 4 allowed")))
    asked = EmbedRequest(image=ImageAsked(file=0, image_id="a", origin=origin))
    assert bench.answer(asked, status=400) == {
        "message": f"Could not load input image. Cause: {cause}"
    }
    assert bench.shelf.things == {}, "it is not kept"


def test_an_unknown_image_id_is_not_found() -> None:
    asked = EmbedRequest(image=ImageAsked(image_id="a"))
    assert list(Bench(Says()).answer(asked, status=404)) == ["message"]


def clicks(count: int, **changed: Any) -> VisualRequest:
    prompts = [visual((n, n, True), (n, 0, False)).prompts[0] for n in range(count)]
    return visual(prompts=prompts, **changed)


def test_the_network_hears_when_nobody_awaits_its_answer_any_more() -> None:
    for asked in (concept(0.5), visual(A), visual(A, format="binary"), EmbedRequest(image=FILE)):
        bench = Bench(Says())
        deadline = time.monotonic() + 60
        bench.reply(asked, deadline=deadline)
        assert bench.says.deadlines
        assert set(bench.says.deadlines) == {deadline}


@pytest.mark.parametrize(
    "asked",
    [
        concept(0.5),
        concept(0.5, nms_iou_threshold=0.5),
        visual(A),
        visual(A, save_logits=True),
        visual(A, format="polygon"),
        visual(A, format="binary"),
    ],
)
def test_an_answer_that_nobody_awaits_is_not_written(asked: Any) -> None:
    """The time is over just when the network has answered."""

    class Slow(Says):
        def concepts(self, *args: Any, **options: Any) -> Any:
            time.sleep(max(0, options["deadline"] - time.monotonic()))
            return super().concepts(*args, **options)

        def objects(self, *args: Any, **options: Any) -> Any:
            time.sleep(max(0, options["deadline"] - time.monotonic()))
            return super().objects(*args, **options)

    bench = Bench(Slow([(0, 0.9)]))
    with pytest.raises(TimeoutError):
        bench.reply(asked, deadline=time.monotonic() + 0.05)
    assert bench.shelf.things == {}


def test_binary_masks_have_a_limit_in_pixels_before_they_are_made() -> None:
    says = Says(side=2**14)  # 256 megapixels
    assert Bench(Says()).reply(clicks(4, format="binary"), deadline=NEVER).status == 200
    refused = Bench(says).answer(clicks(5, format="binary"), status=400)
    assert refused["message"] == (
        "5 binary masks of 16384 x 16384 are 1342177280 pixels; 1073741824 are allowed."
    )
    assert says.objects_asked == []
    assert len(Bench(says).answer(clicks(5))["predictions"]) == 5


@pytest.mark.parametrize("asked", [concept(0.5), concept(0.5, format="rle"), clicks(5)])
def test_an_answer_that_grows_too_long_is_refused(
    asked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    says = Says([(0, 0.9)] * 5)
    monkeypatch.setattr(answers_module, "MAX_REPLY_BYTES", 200)
    assert "more than 200 bytes" in Bench(says).answer(asked, status=413)["message"]
    monkeypatch.setattr(answers_module, "MAX_REPLY_BYTES", 1000)
    Bench(says).answer(asked)


def test_the_body_is_json_without_spaces_as_ever() -> None:
    echoes = ({"text": "dög \u2028"},)
    bench = Bench(Says([(0, 0.9), (0, 0.8)]))
    reply = bench.reply(concept(0.5, echoes=echoes), deadline=NEVER)
    body = loads(reply.body)
    assert list(body) == ["prompt_results", "time"]
    assert reply.body == dumps(body, separators=(",", ":")).encode()


def test_earlier_masks_are_read_once_for_all_prompts_of_a_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(Says())
    save(bench, A)
    save(bench, A, B)
    parsed: list[str] = []
    described = earlier_masks._described
    monkeypatch.setattr(
        earlier_masks, "_described", lambda name: parsed.append(name) or described(name)
    )
    prompts = [visual(A, B, (n, n, False)).prompts[0] for n in range(50)]
    bench.shelf.read.clear()
    bench.answer(visual(prompts=prompts, load_logits=True))
    assert all(asked.previous[0, 0] == 2 for asked in bench.says.objects_asked[-50:])
    assert len(bench.shelf.read) == 2, "the names, and one mask"
    assert len(parsed) == 2
