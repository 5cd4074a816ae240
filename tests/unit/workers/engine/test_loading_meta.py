"""sam3.pt, Meta's layout: the demo network saved in it."""

import gzip
import hashlib
import pickle
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from domain.geometry import Box, Point
from domain.prompts import ConceptPrompt, MaskPrompt
from maskmill.sample_scenes import draw_scene
from workers.engine import load_engine
from workers.engine.checkpoint import CheckpointError, published_config
from workers.engine.clip_tokenizer import bpe_file
from workers.engine.engine import Engine, Found, ImageInput
from workers.engine.meta_checkpoint import from_transformers

DEMO = Path("workers/engine/demo_sam3").resolve()
State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def demo_state() -> State:
    """With one matrix of click positions, as published; the demo network has two."""
    state = load_file(DEMO / "model.safetensors")
    name = "positional_embedding"
    shared = state[f"tracker_model.shared_image_embedding.{name}"]
    return state | {f"tracker_model.prompt_encoder.shared_embedding.{name}": shared.clone()}


@pytest.fixture
def saved(tmp_path: Path, demo_state: State) -> Callable[..., Path]:
    """A directory with sam3.pt and all of the demo's files but its weights."""

    def save(change: Callable[[State], Any] = lambda state: state, wrap: bool = False) -> Path:
        directory = tmp_path / "meta"
        shutil.copytree(DEMO, directory, ignore=shutil.ignore_patterns("*.safetensors"))
        state = from_transformers(demo_state)
        change(state)
        torch.save({"model": state} if wrap else state, directory / "sam3.pt")
        return directory

    return save


def refusal(model: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_engine(str(model), device="cpu")
    return str(caught.value)


def look(engine: Engine) -> list[Found]:
    scene = draw_scene(1001)
    width, height = scene.image.size
    prompts = (
        *[ConceptPrompt(thing.name) for thing in scene.objects],
        ConceptPrompt(None, (Box(*scene.objects[0].box),), (True,)),
        MaskPrompt(Box(*scene.objects[1].box)),
        MaskPrompt(None, (Point(100, 100),)),
    )
    image = ImageInput(engine.squash(np.array(scene.image)), width, height, prompts, 0.3)
    return engine.segment([image])[0]


@pytest.mark.parametrize("wrap", [False, True])
def test_it_finds_what_the_same_weights_in_safetensors_find(
    saved: Callable[..., Path], demo_state: State, tmp_path: Path, wrap: bool
) -> None:
    directory = saved(wrap=wrap)
    shutil.copytree(DEMO, tmp_path / "safe")
    save_file(demo_state, tmp_path / "safe" / "model.safetensors", metadata={"format": "pt"})
    expected = look(load_engine(str(tmp_path / "safe"), device="cpu", threads=1))
    assert len(expected) > 5
    for model in (directory, directory / "sam3.pt"):
        found = look(load_engine(str(model), device="cpu", threads=1))
        assert [(one.prompt, one.score) for one in found] == [
            (one.prompt, one.score) for one in expected
        ]
        assert all(torch.equal(a.mask, b.mask) for a, b in zip(found, expected, strict=True))


def test_its_weights_are_named_by_the_sum_of_the_file(saved: Callable[..., Path]) -> None:
    directory = saved()
    engine = load_engine(str(directory), device="cpu", threads=1)
    expected = hashlib.sha256((directory / "sam3.pt").read_bytes()).hexdigest()
    assert engine.weights_sha256 == expected
    assert engine.limits.image_size == 256


def test_safetensors_come_first_where_both_lie(saved: Callable[..., Path]) -> None:
    directory = saved()
    shutil.copy(DEMO / "model.safetensors", directory)
    engine = load_engine(str(directory), device="cpu", threads=1)
    assert (
        engine.weights_sha256
        == hashlib.sha256((DEMO / "model.safetensors").read_bytes()).hexdigest()
    )


@pytest.mark.parametrize(
    ("key", "named"),
    [
        (
            "detector.transformer.decoder.presence_token.weight",
            "detr_decoder.presence_token.weight",
        ),
        ("tracker.sam_mask_decoder.iou_token.weight", "mask_decoder.iou_token.weight"),
        (
            "detector.backbone.vision_backbone.trunk.blocks.3.attn.qkv.bias",
            "layers.3.attention.k_proj.bias",
        ),
        (
            "detector.backbone.vision_backbone.sam2_convs.2.conv_3x3.bias",
            "neck.fpn_layers.2.proj2.bias",
        ),
    ],
)
def test_a_missing_key_is_an_error_that_names_it(
    saved: Callable[..., Path], key: str, named: str
) -> None:
    message = refusal(saved(lambda state: state.pop(key)))
    assert "missing keys" in message
    assert named in message


def test_the_rest_of_a_joined_weight_is_an_error_that_names_it(saved: Callable[..., Path]) -> None:
    prefix = "tracker.sam_prompt_encoder.point_embeddings"
    message = refusal(saved(lambda state: state.pop(f"{prefix}.1.weight")))
    assert f"unexpected keys: {prefix}.0.weight, {prefix}.2.weight" in message


@pytest.mark.parametrize("key", ["detector.extra.weight", "tracker.extra", "optimizer.step"])
def test_an_unexpected_key_is_an_error_that_names_it(saved: Callable[..., Path], key: str) -> None:
    message = refusal(saved(lambda state: state.update({key: torch.zeros(1)})))
    assert f"unexpected keys: {key}" in message


def test_a_weight_of_another_shape_is_an_error_that_names_it(saved: Callable[..., Path]) -> None:
    key = "detector.backbone.language_backbone.resizer.bias"
    message = refusal(saved(lambda state: state.update({key: torch.zeros(3)})))
    assert "mismatched keys" in message
    assert "text_projection.bias" in message


class Evil:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("modern", [True, False])
def test_a_pickle_with_code_in_it_is_refused_and_the_code_not_run(
    saved: Callable[..., Path], tmp_path: Path, modern: bool
) -> None:
    directory = saved()
    trace = tmp_path / "trace"
    torch.save({"a": Evil(trace)}, directory / "sam3.pt", _use_new_zipfile_serialization=modern)
    message = refusal(directory)
    assert "sam3.pt: not loaded: " in message
    assert ("holds more than tensors" in message) == modern  # else its format already is refused
    assert "\n" not in message
    assert not trace.exists()


@pytest.mark.parametrize("content", [b"", b"junk", pickle.dumps({"a": 1})])
def test_a_damaged_file_is_an_error_of_ours(saved: Callable[..., Path], content: bytes) -> None:
    directory = saved()
    (directory / "sam3.pt").write_bytes(content)
    assert "sam3.pt: not loaded: " in refusal(directory)


@pytest.mark.parametrize("content", [torch.zeros(3), {"model": {"a": "text"}}, {"step": 3}])
def test_a_file_of_something_else_is_an_error_of_ours(
    saved: Callable[..., Path], content: Any
) -> None:
    directory = saved()
    torch.save(content, directory / "sam3.pt")
    assert "not a file of named tensors" in refusal(directory)


def test_a_broken_config_beside_it_is_an_error_of_ours(saved: Callable[..., Path]) -> None:
    directory = saved()
    (directory / "config.json").write_text("{")
    assert "config.json" in refusal(directory)


@pytest.mark.skipif(find_spec("open_clip") is not None, reason="its vocabulary would do")
def test_without_a_tokenizer_it_says_what_to_put_where(saved: Callable[..., Path]) -> None:
    directory = saved()
    (directory / "tokenizer.json").unlink()
    message = refusal(directory)
    assert "put tokenizer.json of facebook/sam3 beside it" in message
    assert "\n" not in message


def test_the_vocabulary_of_open_clip_will_do_for_a_tokenizer(
    saved: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in with the right place, format and number of merges; the real one is compared with
    Meta's tokenizer in tests/reference."""
    directory = saved()
    (directory / "tokenizer.json").unlink()
    package = tmp_path / "path" / "open_clip"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('its code is not needed')")
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    merges = [f"{a} {b}</w>" for a in letters for b in letters][:300]
    with gzip.open(package / "bpe_simple_vocab_16e6.txt.gz", "wt") as lines:
        lines.write("\n".join(["#version", *merges, *["x y"] * (48_894 - 300)]))
    monkeypatch.syspath_prepend(str(package.parent))
    assert bpe_file() == package / "bpe_simple_vocab_16e6.txt.gz"
    engine = load_engine(str(directory), device="cpu", threads=1)
    assert '"<|startoftext|>"' in engine.tokenizer_json


def test_without_files_beside_it_sizes_are_the_published_ones(
    tmp_path: Path, demo_state: State
) -> None:
    """So the small network does not fit, and the error says which sizes were expected."""
    torch.save(from_transformers(demo_state), tmp_path / "sam3.pt")
    message = refusal(tmp_path)
    assert "mismatched keys" in message or "missing keys" in message
    from transformers import Sam3Model, Sam3TrackerModel

    detector, tracker = published_config(Sam3Model), published_config(Sam3TrackerModel)
    vit = detector.vision_config.backbone_config
    assert (vit.image_size, vit.patch_size, vit.num_hidden_layers) == (1008, 14, 32)
    assert detector.detr_decoder_config.num_queries == 200
    assert tracker.vision_config.scale_factors == [4.0, 2.0, 1.0]
