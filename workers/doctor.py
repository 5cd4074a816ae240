"""`python -m workers.doctor`: model files and device, one JSON line per check."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from pydantic import ValidationError

from storage.settings import load_settings


@dataclass(frozen=True, slots=True)
class Check:
    """`mend` says what to do where `ok` is false."""

    check: str
    ok: bool
    detail: str
    mend: str = ""


def checks(models: Sequence[str], device: str) -> Iterator[Check]:
    """Loads every model that this machine would serve: nothing less proves that it can."""
    try:
        from workers.engine import load_engine
        from workers.engine.checkpoint import CheckpointError
    except ImportError as error:
        yield Check("engine", False, str(error), "pip install 'maskmill[worker]'")
        return
    for model in models:
        try:
            engine = load_engine(model, device=device)
        except CheckpointError as error:
            mend = "name a directory or a hub model; gated ones need HF_TOKEN (README)"
            yield Check(f"model {model}", False, str(error), mend)
        else:
            weights = f"weights {engine.weights_sha256[:12]}"
            yield Check(f"model {model}", True, f"{weights}, on {engine.device}")
    yield _device(device)


def _device(wanted: str) -> Check:
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        detail = f"{torch.cuda.get_device_name()}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB"
        return Check("device", True, detail)
    if wanted == "cuda":
        return Check("device", False, "no CUDA device", "check the driver (nvidia-smi)")
    return Check("device", True, f"cpu, {torch.get_num_threads()} threads; no CUDA device")


def main() -> int:
    try:
        settings = load_settings()
        models, device = settings.models, settings.device
    except ValidationError:  # the API's half of the doctor names what is missing
        models, device = ["demo-sam3"], "auto"
    found = []
    for check in checks(models, device):
        found.append(check.ok)
        sys.stdout.write(json.dumps(asdict(check)) + "\n")
        sys.stdout.flush()
    return 0 if all(found) else 1


if __name__ == "__main__":
    sys.exit(main())
