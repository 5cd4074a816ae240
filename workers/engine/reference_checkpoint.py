"""Loads Meta's network into Meta's code, or says in one line what is missing."""

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download

from workers.engine.checkpoint import (
    DEMO_MODEL,
    META_FILE,
    CheckpointError,
    hub_errors,
    read_tensors,
    sha256,
)
from workers.engine.checkpoint_rules import State
from workers.engine.clip_tokenizer import bpe_file, clip_tokenizer_json
from workers.engine.reference import Reference, ReferenceCheckpoint

PUBLISHED_SIDE = 1008
_EXTRA = "pip install 'maskmill[reference]'"
# sam3 0.1.4 imports psutil and triton without declaring them; its wheel lacks the vocabulary.
_NEEDED = ("sam3", "psutil", "triton", "open_clip")


def load_reference(model: str, *, device: str, precision: str = "auto") -> Reference:
    """`model` is a sam3.pt, a directory with one, or a name on the hub; `precision` is auto
    (bfloat16, as published), bfloat16 or float32. Raises CheckpointError with one line."""
    _check_machine(device)
    if precision == "float8":
        raise CheckpointError("the reference engine runs in bfloat16 or float32, not in float8")
    weights = find_weights(model)
    vocabulary = bpe_file()
    if vocabulary is None:
        raise CheckpointError(f"the reference engine needs the vocabulary of open_clip: {_EXTRA}")
    network = build(vocabulary)
    load_weights(network, read_tensors(weights), where=str(weights))
    checkpoint = ReferenceCheckpoint(
        name=model,
        model=network.to("cuda"),
        side=PUBLISHED_SIDE,
        tokenizer_json=clip_tokenizer_json(vocabulary),
        weights_sha256=sha256([weights]),
    )
    dtype = torch.float32 if precision == "float32" else torch.bfloat16
    return Reference(checkpoint, dtype=dtype)


def _check_machine(device: str) -> None:
    missing = [name for name in _NEEDED if find_spec(name) is None]
    needs = [f"{', '.join(missing)} ({_EXTRA})"] if missing else []
    # Meta's constructors put tensors on "cuda", whatever device they are told.
    if device not in ("auto", "cuda") or not torch.cuda.is_available():
        needs.append("a CUDA device")
    if needs:
        raise CheckpointError(f"the reference engine needs {' and '.join(needs)}")


def find_weights(model: str) -> Path:
    path = Path(model)
    if path.is_file():
        return path
    if (path / META_FILE).is_file():
        return path / META_FILE
    if path.is_dir() or model == DEMO_MODEL:
        raise CheckpointError(f"{model}: the reference engine reads {META_FILE}; there is none")
    with hub_errors(model):
        return Path(hf_hub_download(model, META_FILE))


def build(vocabulary: Path) -> Any:
    """Meta's network at the published size, with random weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old APIs in sam3 and timm
        try:
            from sam3.model_builder import build_sam3_image_model
        except ImportError as error:  # something that one of its dependencies does not declare
            raise CheckpointError(f"the reference engine needs {error.name}: {_EXTRA}") from error
        network = build_sam3_image_model(
            bpe_path=str(vocabulary),
            device="cpu",  # until the weights are in
            load_from_HF=False,  # else, as with checkpoint_path, missing keys are only printed
            enable_inst_interactivity=True,
        )
    leave_autocast(network)
    return network.requires_grad_(False)


def leave_autocast(network: Any) -> None:
    """The tracker's constructor enters autocast to bfloat16 in the thread that calls it, "for the
    entire model process": everything else in that thread would compute in bfloat16 too."""
    network.inst_interactive_predictor.model.bf16_context.__exit__(None, None, None)


def load_weights(network: Any, state: State, *, where: str) -> None:
    renamed = {_in_image_model(name): tensor for name, tensor in state.items()}
    try:
        missing, unexpected = network.load_state_dict(renamed, strict=False)
    except RuntimeError as error:  # shapes, a line each
        raise CheckpointError(f"{where}: {' '.join(str(error).split())}") from error
    faults = [
        f"{kind} keys: {', '.join(sorted(names))}"
        for kind, names in (("missing", missing), ("unexpected", unexpected))
        if names
    ]
    if faults:
        raise CheckpointError(f"{where}: {'; '.join(faults)}")


def _in_image_model(name: str) -> str:
    """From sam3.pt, which is a video model, to the image model; as model_builder does it."""
    if name.startswith("tracker."):
        return "inst_interactive_predictor.model." + name.removeprefix("tracker.")
    return name.removeprefix("detector.")
