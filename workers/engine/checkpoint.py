"""Finds a checkpoint and loads it, or says why not.

Two layouts: transformers' (a directory with safetensors) and Meta's (sam3.pt, which is a pickle,
and is only ever read with weights_only=True: tensors in plain containers, no code).
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from transformers import AutoTokenizer, Sam3ImageProcessor, Sam3Model, Sam3TrackerModel
from transformers.utils import logging as transformers_logging

from workers.engine.clip_tokenizer import bpe_file, clip_tokenizer_json
from workers.engine.meta_checkpoint import to_transformers

DEMO_MODEL = "demo-sam3"
META_FILE = "sam3.pt"
_DEMO_DIRECTORY = Path(__file__).parent / "demo_sam3"
_DEMO_NOTICE = (
    "demo-sam3 is a tiny network that only knows coloured shapes; "
    "real photographs need facebook/sam3 (see README)."
)
_HUB_FILES = ["*.json", "*.safetensors", "*.txt"]  # leaves out sam3.pt, 3.4 GB of the same weights


class CheckpointError(Exception):
    """The model cannot be loaded; the message is one for the operator."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The two classes that transformers splits SAM 3 into; they share one ViT here.

    `tokenizer_json` is in the `tokenizers` format, without padding or truncation.
    `weights_sha256` is over the weight files' bytes in the order of their names.
    """

    name: str
    detector: Any  # Sam3Model: concepts
    tracker: Any  # Sam3TrackerModel: clicks and boxes
    image_processor: Any
    tokenizer_json: str
    weights_sha256: str
    notice: str | None


def load_checkpoint(model: str, *, device: torch.device) -> Checkpoint:
    """In float32 and ready for inference. Raises CheckpointError."""
    with _quiet_transformers():
        found = find_checkpoint(model)
        parts = _read_meta(found) if found.is_file() else _read_transformers(found)
    detector, tracker = parts.detector, parts.tracker
    tracker.vision_encoder.backbone = detector.vision_encoder.backbone
    return Checkpoint(
        model,
        detector.to(device),
        tracker.to(device),
        parts.image_processor,
        parts.tokenizer_json,
        sha256(parts.weights),
        _DEMO_NOTICE if model == DEMO_MODEL else None,
    )


def find_checkpoint(model: str) -> Path:
    """A directory with safetensors, or a file in Meta's layout; the hub is asked only for what
    is neither a file nor a directory here."""
    if model == DEMO_MODEL:
        return _DEMO_DIRECTORY
    path = Path(model)
    if path.is_file():
        return path
    if not path.is_dir():
        return _download(model)
    if (path / META_FILE).is_file() and not any(path.glob("*.safetensors")):
        return path / META_FILE
    return path


def _download(model: str) -> Path:
    with hub_errors(model):
        return Path(snapshot_download(model, allow_patterns=_HUB_FILES))


@contextmanager
def hub_errors(model: str) -> Iterator[None]:
    try:
        yield
    except HFValidationError as error:
        raise CheckpointError(f"{model}: neither a directory nor a name on the hub") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        # A gated model (facebook/sam3) without a token ends here; the hub's first line says so.
        reason = first_line(error)
        raise CheckpointError(f"{model}: cannot be fetched from the hub: {reason}") from error


@dataclass(frozen=True, slots=True)
class _Parts:
    detector: Any
    tracker: Any
    image_processor: Any
    tokenizer_json: str
    weights: list[Path]


def _read_transformers(directory: Path) -> _Parts:
    weights = sorted(directory.glob("*.safetensors"))
    if not weights:
        raise CheckpointError(f"no .safetensors file and no {META_FILE} in {directory}")
    options = {"use_safetensors": True, "local_files_only": True}
    return _Parts(
        _load(Sam3Model, directory, **options),
        _load(Sam3TrackerModel, directory, **options),
        Sam3ImageProcessor.from_pretrained(directory),
        _tokenizer_json(directory),
        weights,
    )


def _read_meta(file: Path) -> _Parts:
    """What is not in the file (sizes, preprocessing, tokenizer) is as published, unless
    transformers' files for it lie beside."""
    state = to_transformers(read_tensors(file))
    detector, tracker = (
        _load(kind, None, state_dict=state, config=_config(kind, file))
        for kind in (Sam3Model, Sam3TrackerModel)
    )
    side = detector.config.vision_config.backbone_config.image_size
    return _Parts(
        detector, tracker, _meta_image_processor(file, side), _meta_tokenizer_json(file), [file]
    )


def read_tensors(file: Path) -> dict[str, torch.Tensor]:
    """A file in Meta's layout, memory-mapped. Raises CheckpointError for anything but tensors."""
    try:
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except UnpicklingError as error:
        raise CheckpointError(f"{file}: not loaded: holds more than tensors") from error
    except Exception as error:  # old formats and damaged files fail in many ways
        raise CheckpointError(f"{file}: not loaded: {first_line(error)}") from error
    state = state.get("model", state) if isinstance(state, dict) else state
    if not (isinstance(state, dict) and all(map(torch.is_tensor, state.values()))):
        raise CheckpointError(f"{file}: not a file of named tensors")
    return state


def _config(kind: Any, file: Path) -> Any:
    if not (file.parent / "config.json").is_file():
        return published_config(kind)
    try:
        return kind.config_class.from_pretrained(file.parent, local_files_only=True)
    except Exception as error:
        raise CheckpointError(f"{file.parent}/config.json: {first_line(error)}") from error


def published_config(kind: Any) -> Any:
    """transformers' defaults are the published sizes, but for the level of the tracker's neck
    that nobody reads."""
    config = kind.config_class()
    if kind is Sam3TrackerModel:
        config.vision_config.scale_factors = [4.0, 2.0, 1.0]
    return config


def _meta_image_processor(file: Path, side: int) -> Any:
    names = ("processor_config.json", "preprocessor_config.json")
    if any((file.parent / name).is_file() for name in names):
        return Sam3ImageProcessor.from_pretrained(file.parent)
    return Sam3ImageProcessor(size={"height": side, "width": side})


def _meta_tokenizer_json(file: Path) -> str:
    if (file.parent / "tokenizer.json").is_file():
        return _tokenizer_json(file.parent)
    vocabulary = bpe_file()
    if vocabulary is None:
        raise CheckpointError(
            f"{file}: no tokenizer: put tokenizer.json of facebook/sam3 beside it, "
            "or pip install open_clip_torch, which carries the vocabulary"
        )
    return clip_tokenizer_json(vocabulary)


def _load(model_class: Any, directory: Path | None, **options: Any) -> Any:
    where = f"{directory}: " if directory else ""
    try:
        network, report = model_class.from_pretrained(
            directory,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # reported too, and with their names
            output_loading_info=True,
            **options,
        )
    except Exception as error:  # a broken file or config fails in many ways, all fatal
        raise CheckpointError(f"{where}{model_class.__name__}: {error}") from error
    _check_keys(report, f"{where}{model_class.__name__}")
    return network.eval().requires_grad_(False)


def _check_keys(report: dict[str, Any], where: str) -> None:
    """transformers fills what is missing with random numbers and goes on; we do not."""
    faults = [
        f"{kind} keys: {', '.join(sorted(map(str, report[f'{kind}_keys'])))}"
        for kind in ("missing", "unexpected", "mismatched")
        if report[f"{kind}_keys"]
    ]
    if faults:
        raise CheckpointError(f"{where}: {'; '.join(faults)}")


def _tokenizer_json(directory: Path) -> str:
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{directory}: tokenizer: {error}") from error
    backend = tokenizer.backend_tokenizer
    backend.no_padding()
    backend.no_truncation()
    return str(backend.to_str())


def sha256(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """No progress bars and no advice on stderr; what matters there is an error of ours."""
    logging: Any = transformers_logging  # untyped
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
