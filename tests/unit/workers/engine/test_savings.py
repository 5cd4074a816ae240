"""What the engine leaves out, folds or shares changes no answer: every stage that differs from
transformers' code, and the whole, against the plain path on the same weights."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from domain.geometry import Box, Point
from domain.prompts import MaskPrompt
from tests.unit.workers.engine.plain_path import (
    NETWORKS,
    PROMPTS,
    Trace,
    Twins,
    images,
    pairs_of,
    trace,
    twins,
)
from workers.engine.coordinates import clicks, objects
from workers.engine.engine import Found, ImageInput, Pointed
from workers.engine.passes import PassSizes


@dataclass(frozen=True)
class Case:
    """`traces` by image and prompt."""

    twins: Twins
    inputs: list[ImageInput]
    traces: dict[tuple[int, int], Trace]

    def first_of_each_image(self) -> list[Trace]:
        return [self.traces[place, 0] for place in range(len(self.inputs))]


@pytest.fixture(scope="module", params=NETWORKS)
def case(request: pytest.FixtureRequest) -> Case:
    both = twins(request.param)
    inputs = images(both.network)
    traces = {
        (pair.image, pair.prompt): trace(both, inputs[pair.image], pair)
        for pair in pairs_of(inputs)
    }
    return Case(both, inputs, traces)


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    """As floating-point numbers added up in another order; measured: up to 2e-5 deviations."""
    assert ours.shape == theirs.shape
    spread = theirs.std()
    assert spread > 1e-3  # something to compare
    assert (ours - theirs).abs().max() <= 1e-4 * spread


def assert_same_masks(ours: Tensor, logits: Tensor) -> None:
    assert torch.allclose(ours, logits.sigmoid() - 0.5, atol=1e-3)
    differ = (ours > 0) != (logits > 0)
    assert differ.double().mean() <= 1e-3
    assert (ours[differ].abs() < 1e-3).all()  # on the edge


def assert_same_answer(found: Sequence[Found], expected: Trace, *, floor: float = 0.0) -> None:
    kept = expected.scores >= floor
    scores = torch.tensor([one.score for one in found])
    assert torch.allclose(scores, expected.scores[kept], atol=1e-4, rtol=0)
    assert_same_masks(torch.stack([one.mask for one in found]), expected.masks[kept])


def prompt_batch(traces: Sequence[Trace]) -> tuple[Tensor, Tensor]:
    """Tokens and padding; what stands in the padding must not matter."""
    lengths = torch.tensor([len(one.tokens) for one in traces])
    tokens = pad_sequence([one.tokens for one in traces], batch_first=True, padding_value=30.0)
    beyond = torch.arange(tokens.shape[1]) >= lengths[:, None]
    return tokens, torch.zeros(beyond.shape).masked_fill(beyond, -torch.inf)


def counted(monkeypatch: pytest.MonkeyPatch, owner: Any, method: str) -> list[int]:
    """Rows of the first argument of each call from now on."""
    original, rows = getattr(owner, method), []

    def call(*arguments: Any) -> Any:
        rows.append(len(arguments[0]))
        return original(*arguments)

    monkeypatch.setattr(owner, method, call)
    return rows


def test_the_answers_to_compare_are_of_all_kinds(case: Case) -> None:
    scores = torch.stack([one.scores for one in case.traces.values()])
    masks = torch.stack([one.masks for one in case.traces.values()]) > 0
    assert scores.std(dim=0).min() > 1e-3  # over the prompts
    assert scores.std(dim=1).max() > 2e-3  # over the queries
    assert 0.002 < masks.double().mean() < 0.998
    assert {len(one.pair.exemplars) for one in case.traces.values()} >= {0, 1, 2, 3, 4}


def test_vit_with_windows_kept_and_projections_fused(case: Case) -> None:
    network = case.twins.network
    squashed = torch.stack([image.pixels for image in case.inputs])
    ours = case.twins.stages.vit(network._preprocessing.normalise(squashed))
    assert_close(ours, torch.stack([one.features for one in case.first_of_each_image()]))


def test_neck_with_folded_projections_and_without_its_last_level(case: Case) -> None:
    first, neck = case.first_of_each_image(), case.twins.stages.neck
    features = torch.stack([one.features for one in first])
    ours = [*neck.finer(features), neck.coarse(features)]
    theirs = [torch.stack(level) for level in zip(*(one.levels for one in first), strict=True)]
    for our_level, their_level in zip(ours, theirs[:-1], strict=True):
        assert_close(our_level, their_level)


def test_texts_without_padding(case: Case) -> None:
    traces = list(case.traces.values())
    encoded = case.twins.stages.text_encoder.encode([one.pair.text for one in traces])
    assert len({len(tokens) for tokens in encoded}) > 3
    for tokens, expected in zip(encoded, traces, strict=True):
        assert_close(tokens, expected.tokens[: len(tokens)])


def test_exemplars_of_many_images_at_once(case: Case) -> None:
    traces = [one for one in case.traces.values() if one.pair.exemplars]
    coarse = torch.stack([one.levels[-2] for one in traces])
    encoded = case.twins.stages.exemplar_encoder(coarse, [one.pair.exemplars for one in traces])
    for tokens, expected in zip(encoded, traces, strict=True):
        assert_close(tokens, expected.exemplar_tokens)


def test_encoder_with_its_first_layer_begun_per_image(case: Case) -> None:
    encoder, traces = case.twins.stages.encoder, list(case.traces.values())
    begun = encoder.begin(torch.stack([one.levels[-2] for one in case.first_of_each_image()]))
    ours = encoder(begun[[one.pair.image for one in traces]], *prompt_batch(traces))
    assert_close(ours, torch.stack([one.memory for one in traces]))


def test_decoder_with_a_constant_start_and_only_the_last_answer(case: Case) -> None:
    traces = list(case.traces.values())
    memory = torch.stack([one.memory for one in traces])
    queries, scores = case.twins.stages.decoder(memory, *prompt_batch(traces))
    assert_close(queries, torch.stack([one.queries for one in traces]))
    expected = torch.stack([one.scores for one in traces])
    assert torch.allclose(scores, expected, atol=1e-5, rtol=0)


def test_pixel_decoder_in_sub_pixel_form(case: Case) -> None:
    stages, traces = case.twins.stages, list(case.traces.values())[-12:]  # of several images
    first = case.first_of_each_image()
    levels = zip(*(one.levels[:-2] for one in first), strict=True)
    skips = stages.mask_decoder.skips([torch.stack(level) for level in levels])
    memory = torch.stack([one.memory for one in traces])
    places = torch.tensor([one.pair.image for one in traces])
    ours = stages.mask_decoder(memory, *prompt_batch(traces), skips, places)
    assert_close(ours, torch.stack([one.pixels for one in traces]))


def test_masks_with_the_projection_folded_into_the_queries(case: Case) -> None:
    for one in case.first_of_each_image():
        (masks,) = case.twins.stages.mask_decoder.masks(
            one.queries, one.pixels[None], [len(one.queries)]
        )
        assert_same_masks(masks, one.masks)


TEXT, BOXES, BOTH = KINDS = 0, 1, 2  # position of a prompt modulo 3, see plain_path.images


@pytest.mark.parametrize(
    ("places", "kinds"),
    [
        ((0,), (TEXT,)),
        ((0,), (BOXES,)),
        ((0,), (BOTH,)),
        ((0,), KINDS),  # 16 prompts
        ((1,), KINDS),  # one
        ((3, 0, 2), (TEXT, BOTH)),
        ((0, 1, 2, 3, 4), KINDS),
    ],
)
def test_the_whole_engine(case: Case, places: tuple[int, ...], kinds: tuple[int, ...]) -> None:
    asked = {
        place: [number for number in range(PROMPTS[place]) if number % 3 in kinds]
        for place in places
    }
    inputs = [
        replace(case.inputs[place], prompts=tuple(case.inputs[place].prompts[n] for n in numbers))
        for place, numbers in asked.items()
    ]
    answers = case.twins.network.segment(inputs)
    for found, (place, numbers) in zip(answers, asked.items(), strict=True):
        for position, number in enumerate(numbers):
            own = [one for one in found if one.prompt == position]
            assert_same_answer(own, case.traces[place, number])


def test_the_gate_lets_through_what_scores_the_floor_and_nothing_else(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    bests = sorted(float(one.scores.max()) for one in case.traces.values())
    floor = sum(bests[-8:-6]) / 2  # seven pairs are above
    assert bests[-7] - bests[-8] > 1e-5
    decoded = counted(monkeypatch, case.twins.stages.mask_decoder, "forward")
    answers = case.twins.network.segment([replace(image, floor=floor) for image in case.inputs])
    assert sum(decoded) == 7
    for (place, number), expected in case.traces.items():
        own = [one for one in answers[place] if one.prompt == number]
        if expected.scores.max() < floor:
            assert own == []
        else:
            assert_same_answer(own, expected, floor=floor)


def test_what_prompts_share_is_done_once(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    stages, images_, pairs = case.twins.stages, len(case.inputs), len(case.traces)
    first_layer: Any = stages.encoder.layers[0]
    start: Any = stages.decoder.layers[0]
    rows = {
        (name, method): counted(monkeypatch, owner, method)
        for name, owner, method in (
            ("vit", stages.vit, "forward"),
            ("coarse level", stages.neck, "coarse"),
            ("finer levels", stages.neck, "finer"),
            ("first self-attention", first_layer, "mix"),
            ("encoder", stages.encoder, "forward"),
            ("decoder's start", start, "exchange"),
            ("presence", stages.decoder.presence_head, "forward"),
            ("masks", stages.mask_decoder, "forward"),
        )
    }
    case.twins.network.segment([replace(image, floor=1.1) for image in case.inputs])  # no score is
    assert {name: sum(calls) for (name, _), calls in rows.items()} == {
        "vit": images_,
        "coarse level": images_,
        "finer levels": 0,
        "first self-attention": images_,
        "encoder": pairs,
        "decoder's start": 0,
        "presence": pairs,
        "masks": 0,
    }


ASKED = [(place, number) for place, count in enumerate(PROMPTS) for number in range(count)]


def test_pairs_in_any_order_and_passes_of_any_size(case: Case) -> None:
    features = torch.stack([one.features for one in case.first_of_each_image()])

    # Inside, because hypothesis prints arguments, and a network takes it half a minute.
    @settings(max_examples=6)
    @given(
        st.lists(st.sampled_from(ASKED), min_size=1, max_size=9),
        st.builds(PassSizes, st.just(1), st.integers(1, 10), st.integers(1, 10)),
    )
    def the_same_comes_out(chosen: list[tuple[int, int]], sizes: PassSizes) -> None:
        traces = [case.traces[at] for at in chosen]
        lists = case.twins.stages.find(features, [one.pair for one in traces], sizes=sizes)
        for scored, expected in zip(chain.from_iterable(lists), traces, strict=True):
            assert (scored.image, scored.prompt) == (expected.pair.image, expected.pair.prompt)
            assert torch.allclose(torch.tensor(scored.scores), expected.scores, atol=1e-4, rtol=0)
            assert_same_masks(scored.masks, expected.masks)

    the_same_comes_out()


def stock_object(
    case: Case, image: ImageInput, prompt: int, *, multimask: bool, mask: Tensor | None
) -> tuple[float, Tensor]:
    """By the whole Sam3TrackerModel, which has a ViT of its own: the best score, and its mask."""
    points = clicks(
        dict(objects(image))[prompt],
        width=image.width,
        height=image.height,
        side=case.twins.network.limits.image_size,
    )
    output = case.twins.stock_tracker(
        pixel_values=case.twins.network._preprocessing.normalise(image.pixels[None]),
        input_points=torch.tensor([[[point[:2] for point in points]]]),
        input_labels=torch.tensor([[[point[2] for point in points]]]).int(),
        input_masks=mask,
        multimask_output=multimask,
    )
    best = int(output.iou_scores[0, 0].argmax())
    return float(output.iou_scores[0, 0, best]), output.pred_masks[0, 0, best]


@pytest.mark.parametrize("case", ["demo", "four levels"], indirect=True)
def test_clicks_and_boxes_on_the_shared_vit(case: Case) -> None:
    for image in case.inputs:
        x, y = image.width / 3, image.height / 2
        prompts = (
            MaskPrompt(None, (Point(x, y),)),
            MaskPrompt(None, (Point(x, y), Point(2 * x, y, positive=False))),
            MaskPrompt(Box(5, 9, x, y)),
            MaskPrompt(Box(5, 9, x, y), (Point(x / 2, y / 2),)),
            Pointed((Point(-9, y),)),
            Pointed(),
            Pointed((Point(x, y),), multimask=False),
            Pointed((Point(2 * x, y),), (x, y, 5, -9), multimask=False),
        )
        asked = replace(image, prompts=prompts)
        (found,) = case.twins.network.segment([asked])
        assert len(found) == len(prompts)
        for one in found:
            multimask = one.prompt < 6
            score, mask = stock_object(case, asked, one.prompt, multimask=multimask, mask=None)
            assert one.score == pytest.approx(score, abs=1e-4)
            assert_same_masks(one.mask.sigmoid() - 0.5, mask)


@pytest.mark.parametrize("case", ["demo", "four levels"], indirect=True)
def test_an_earlier_mask_as_input_cut_at_32(case: Case) -> None:
    image, other = case.inputs[:2]
    click = Pointed((Point(image.width / 3, image.height / 2),))
    (earlier,), (elsewhere,) = case.twins.network.segment(
        [replace(one, prompts=(click,)) for one in (image, other)]
    )
    great = 1000 * earlier.logits
    prompts = (
        replace(click, previous=earlier.logits),
        click,
        replace(click, previous=great, multimask=False),
        replace(click, previous=elsewhere.logits),
    )
    asked = replace(image, prompts=prompts)
    masks = (earlier.logits, None, great.clip(-32, 32), elsewhere.logits)
    (found,) = case.twins.network.segment([asked])
    assert len(found) == len(prompts)
    for one in found:
        mask = masks[one.prompt]
        previous = None if mask is None else torch.from_numpy(mask)[None, None]
        score, expected = stock_object(
            case, asked, one.prompt, multimask=one.prompt != 2, mask=previous
        )
        assert one.score == pytest.approx(score, abs=1e-4)
        assert_same_masks(one.mask.sigmoid() - 0.5, expected)
