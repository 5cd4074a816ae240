"""Finds a checkpoint and loads it, or says why not. Only safetensors: no pickle is ever read."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from transformers import AutoTokenizer, Sam3ImageProcessor, Sam3Model, Sam3TrackerModel
from transformers.utils import logging as transformers_logging

DEMO_MODEL = "demo-sam3"
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
        directory = find_checkpoint(model)
        weights = sorted(directory.glob("*.safetensors"))
        if not weights:
            raise CheckpointError(f"{model}: no .safetensors file in {directory}")
        detector = _load(Sam3Model, directory)
        tracker = _load(Sam3TrackerModel, directory)
        image_processor = Sam3ImageProcessor.from_pretrained(directory)
        tokenizer_json = _tokenizer_json(directory)
    tracker.vision_encoder.backbone = detector.vision_encoder.backbone
    return Checkpoint(
        model,
        detector.to(device),
        tracker.to(device),
        image_processor,
        tokenizer_json,
        _sha256(weights),
        _DEMO_NOTICE if model == DEMO_MODEL else None,
    )


def find_checkpoint(model: str) -> Path:
    """The directory that holds the model; the hub is asked only for what is not a directory."""
    if model == DEMO_MODEL:
        return _DEMO_DIRECTORY
    if Path(model).is_dir():
        return Path(model)
    try:
        return Path(snapshot_download(model, allow_patterns=_HUB_FILES))
    except HFValidationError as error:
        raise CheckpointError(f"{model}: neither a directory nor a name on the hub") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        # A gated model (facebook/sam3) without a token ends here; the hub's first line says so.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{model}: cannot be fetched from the hub: {reason}") from error


def _load(model_class: Any, directory: Path) -> Any:
    try:
        network, report = model_class.from_pretrained(
            directory,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # reported too, and with their names
            output_loading_info=True,
        )
    except Exception as error:  # a broken file or config fails in many ways, all fatal
        raise CheckpointError(f"{directory}: {model_class.__name__}: {error}") from error
    _check_keys(report, f"{directory}: {model_class.__name__}")
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


def _sha256(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


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
