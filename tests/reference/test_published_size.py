"""The table of names against networks that Meta's own builders make, at the published size."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from sam3 import model_builder
from transformers import Sam3Model, Sam3TrackerModel

from tests.reference.meta_networks import OnTheCpu, as_image_model
from workers.engine.checkpoint import published_config
from workers.engine.clip_tokenizer import bpe_file
from workers.engine.meta_checkpoint import UNUSED, from_transformers, to_transformers

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")


@contextmanager
def without_memory() -> Iterator[None]:
    """Shapes only: 840 million random numbers would take a minute and 3.4 GB."""
    with OnTheCpu("meta"), torch.device("meta"):
        yield


@pytest.fixture(scope="module")
def sam3_pt() -> dict[str, torch.Tensor]:
    """Names and shapes of sam3.pt, which build_sam3_video_model reads with strict=True."""
    with pytest.MonkeyPatch.context() as patch:
        # Stochastic depth reads its rates out of a tensor; needs real numbers.
        linspace = torch.linspace
        patch.setattr(torch, "linspace", lambda *a, **k: linspace(*a, **{**k, "device": "cpu"}))
        with without_memory():
            network = model_builder.build_sam3_video_model(
                bpe_path=str(bpe_file()), load_from_HF=False, device="meta"
            )
    return dict(network.state_dict())


@pytest.fixture(scope="module")
def transformers_state() -> dict[str, torch.Tensor]:
    """Names and shapes of facebook/sam3's safetensors as far as they are read here, from the
    defaults of transformers' configs."""
    state: dict[str, torch.Tensor] = {}
    with torch.device("meta"):
        for name, tensor in Sam3Model(published_config(Sam3Model)).state_dict().items():
            state[f"detector_model.{name}"] = tensor
        tracker: Any = Sam3TrackerModel(published_config(Sam3TrackerModel))
        for name, tensor in tracker.state_dict().items():
            if name.startswith("vision_encoder.neck."):
                state[name.replace("vision_encoder.neck.", "tracker_neck.")] = tensor
            elif not name.startswith("vision_encoder."):
                state[f"tracker_model.{name}"] = tensor
    return state


def shapes(state: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def test_sam3_pt_converts_to_the_names_and_shapes_of_transformers_defaults(
    sam3_pt: dict[str, torch.Tensor], transformers_state: dict[str, torch.Tensor]
) -> None:
    assert shapes(to_transformers(sam3_pt)) == shapes(transformers_state)


def test_back_again_only_the_unused_is_missing(
    sam3_pt: dict[str, torch.Tensor],
    transformers_state: dict[str, torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch, "equal", lambda one, other: one.shape == other.shape)  # no numbers
    back = shapes(from_transformers(transformers_state))
    assert back == {n: s for n, s in shapes(sam3_pt).items() if not UNUSED.match(n)}


def test_what_is_called_unused_is_video_memory_points_and_what_is_computed(
    sam3_pt: dict[str, torch.Tensor],
) -> None:
    unused = [name for name in sam3_pt if UNUSED.match(name)]
    assert len(unused) < len(sam3_pt) / 5
    assert not any("sam_mask_decoder" in name or "sam_prompt_encoder" in name for name in unused)


def test_the_image_model_of_the_reference_engine_takes_every_key_of_sam3_pt(
    sam3_pt: dict[str, torch.Tensor],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        linspace = torch.linspace
        patch.setattr(torch, "linspace", lambda *a, **k: linspace(*a, **{**k, "device": "cpu"}))
        with without_memory():
            network = model_builder.build_sam3_image_model(
                bpe_path=str(bpe_file()),
                load_from_HF=False,
                device="meta",
                enable_inst_interactivity=True,
            )
    assert shapes(as_image_model(sam3_pt)) == shapes(network.state_dict())
