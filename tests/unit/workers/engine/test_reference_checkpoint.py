"""Loading the reference engine, as far as that goes without sam3 and a GPU; the engine itself is
tested in tests/reference."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from workers.engine import load_engine
from workers.engine.checkpoint import CheckpointError
from workers.engine.reference_checkpoint import find_weights, load_weights

without_sam3 = pytest.mark.skipif(find_spec("sam3") is not None, reason="sam3 is installed")
without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


def refusal(device: str = "auto") -> str:
    with pytest.raises(CheckpointError) as caught:
        load_engine("facebook/sam3", engine="reference", device=device)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@without_sam3
def test_without_the_package_it_says_how_to_get_it() -> None:
    message = refusal()
    assert message.startswith("the reference engine needs sam3")
    assert "pip install 'maskmill[reference]'" in message


@without_cuda
def test_without_a_cuda_device_it_says_so() -> None:
    assert refusal().endswith("a CUDA device")


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_another_device_will_not_do(device: str) -> None:
    assert refusal(device).endswith("a CUDA device")


def test_weights_are_a_file_or_lie_in_a_directory(tmp_path: Path) -> None:
    file = tmp_path / "sam3.pt"
    file.touch()
    assert find_weights(str(file)) == find_weights(str(tmp_path)) == file


def test_a_directory_without_metas_file_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"reads sam3\.pt; there is none"):
        find_weights(str(tmp_path))
    with pytest.raises(CheckpointError, match=r"demo-sam3: .* sam3\.pt"):
        find_weights("demo-sam3")


def test_weights_that_the_hub_does_not_give_out_are_an_error_of_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="cannot be fetched"):
        find_weights("somebody/some-model")


class Parts(torch.nn.Module):
    """Names as in Meta's image model."""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(2, 2)
        self.inst_interactive_predictor = torch.nn.ModuleDict({"model": torch.nn.Linear(2, 2)})


def state() -> dict[str, torch.Tensor]:
    names = ("detector.head.weight", "tracker.weight")
    biases = ("detector.head.bias", "tracker.bias")
    return {name: torch.ones(2, 2) for name in names} | {name: torch.ones(2) for name in biases}


def test_names_of_the_video_model_find_their_place_in_the_image_model() -> None:
    network = Parts()
    load_weights(network, state(), where="file")
    assert all(bool((tensor == 1).all()) for tensor in network.state_dict().values())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"detector.head.weight": None}, "missing keys: head.weight"),
        (
            {"tracker.extra": torch.ones(1)},
            "unexpected keys: inst_interactive_predictor.model.extra",
        ),
        ({"detector.head.bias": torch.ones(3)}, "size mismatch for head.bias"),
    ],
)
def test_keys_that_do_not_fit_are_an_error_that_names_them(
    change: dict[str, torch.Tensor | None], named: str
) -> None:
    changed = {name: one for name, one in (state() | change).items() if one is not None}
    with pytest.raises(CheckpointError, match="file: ") as caught:
        load_weights(Parts(), changed, where="file")
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
