import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from domain.tokens import token_counter
from workers.engine import load_engine
from workers.engine.checkpoint import CheckpointError
from workers.engine.network import Network

DEMO = Path("workers/engine/demo_sam3").resolve()


@pytest.fixture
def broken(tmp_path: Path) -> Callable[..., str]:
    """A copy of the demo checkpoint whose weights were changed by a function."""

    def make(change: Callable[[dict[str, torch.Tensor]], object]) -> str:
        directory = tmp_path / "model"
        shutil.copytree(DEMO, directory)
        weights = load_file(directory / "model.safetensors")
        change(weights)
        save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
        return str(directory)

    return make


def refusal(model: str, device: str = "cpu") -> str:
    with pytest.raises(CheckpointError) as caught:
        load_engine(model, device=device)
    return str(caught.value)


@pytest.mark.parametrize(
    "key",
    [
        "detector_model.detr_decoder.presence_token.weight",
        "tracker_model.mask_decoder.iou_token.weight",
        "tracker_neck.fpn_layers.2.proj1.bias",
        "detector_model.vision_encoder.backbone.layers.3.mlp.fc1.weight",
    ],
)
def test_a_missing_key_is_an_error_that_names_it(broken: Callable[..., str], key: str) -> None:
    name = key.removeprefix("detector_model.").removeprefix("tracker_model.")
    name = name.removeprefix("tracker_neck.")
    message = refusal(broken(lambda weights: weights.pop(key)))
    assert "missing keys" in message
    assert name in message


@pytest.mark.parametrize(
    "key", ["detector_model.extra.weight", "tracker_model.extra.weight", "something.else"]
)
def test_an_unexpected_key_is_an_error_that_names_it(broken: Callable[..., str], key: str) -> None:
    message = refusal(broken(lambda weights: weights.update({key: torch.zeros(1)})))
    assert "unexpected keys" in message
    assert key.split(".", 1)[1] in message


def test_a_weight_of_another_shape_is_an_error_that_names_it(broken: Callable[..., str]) -> None:
    key = "detector_model.text_projection.bias"
    message = refusal(broken(lambda weights: weights.update({key: torch.zeros(3)})))
    assert "text_projection.bias" in message


def test_a_directory_without_weights_says_so(tmp_path: Path) -> None:
    assert "no .safetensors file" in refusal(str(tmp_path))


def test_a_pickle_of_another_name_is_not_read(tmp_path: Path) -> None:
    shutil.copytree(DEMO, tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    (tmp_path / "model" / "model.safetensors").unlink()
    torch.save(weights, tmp_path / "model" / "pytorch_model.bin")
    assert "no .safetensors file" in refusal(str(tmp_path / "model"))


def test_a_damaged_weight_file_is_an_error_of_ours(tmp_path: Path) -> None:
    shutil.copytree(DEMO, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"junk")
    assert str(tmp_path) in refusal(str(tmp_path / "model"))


def test_what_is_neither_a_directory_nor_a_hub_name_is_an_error_of_ours() -> None:
    assert "neither a directory nor a name" in refusal("not/a/model/name")


def test_a_model_that_the_hub_does_not_give_out_is_an_error_of_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "cannot be fetched" in refusal("somebody/some-model")


def test_a_device_that_is_not_there_is_an_error_of_ours() -> None:
    assert "not available" in refusal("demo-sam3", device="abacus")


def test_the_demo_network_says_what_it_is(network: Network) -> None:
    assert network.notice is not None
    assert "coloured shapes" in network.notice
    assert "\n" not in network.notice
    weights = (DEMO / "model.safetensors").read_bytes()
    assert network.weights_sha256 == hashlib.sha256(weights).hexdigest()
    assert (network.name, network.device.type) == ("demo-sam3", "cpu")


def test_the_limits_are_those_of_the_checkpoint(network: Network) -> None:
    limits = network.limits
    assert (limits.text_tokens, limits.queries, limits.image_size) == (32, 30, 256)


def test_a_directory_loads_like_the_built_in_network_but_is_no_demo(network: Network) -> None:
    loaded = load_engine(str(DEMO), device="cpu", threads=1)
    assert loaded.notice is None
    assert loaded.weights_sha256 == network.weights_sha256


def test_tokens_are_counted_without_torch_as_the_network_counts_them(network: Network) -> None:
    count = token_counter(network.tokenizer_json)
    assert count("red circle") == 4
    assert count("dog") == 3
    assert count(" ".join(["red"] * 40)) == 42


def test_loading_prints_nothing_and_asks_nobody() -> None:
    """In a process of its own: offline switches are off there, and any connection would fail."""
    program = (
        "import socket\n"
        "def refuse(*args, **kwargs): raise AssertionError('network access')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "from workers.engine import load_engine\n"
        "import sys; assert 'torch' not in sys.modules\n"
        "load_engine('demo-sam3', device='cpu', threads=1)\n"
    )
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "0"},
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
