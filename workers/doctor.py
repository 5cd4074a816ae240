"""`python -m workers.doctor`: model files and device, one JSON line per check."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from pydantic import ValidationError

from storage.settings import load_settings
from workers.engine import load_engine


@dataclass(frozen=True, slots=True)
class Check:
    """`mend` says what to do where `ok` is false."""

    check: str
    ok: bool
    detail: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Serving:
    """How this machine would run its models; see storage.settings."""

    models: Sequence[str] = ("demo-sam3",)
    engine: str = "staged"
    device: str = "auto"
    precision: str = "auto"


def checks(serving: Serving) -> Iterator[Check]:
    """Loads every model that this machine would serve: nothing less proves that it can."""
    try:
        from workers.engine.checkpoint import CheckpointError
    except ImportError as error:
        yield Check("engine", False, str(error), "pip install 'maskmill[worker]'")
        return
    for model in serving.models:
        try:
            yield Check(f"model {model}", True, _loaded(model, serving))
        except CheckpointError as error:
            mend = "name a directory or a hub model; gated ones need HF_TOKEN (README)"
            yield Check(f"model {model}", False, str(error), mend)
    yield _device(serving.device)


def _loaded(model: str, serving: Serving) -> str:
    engine = load_engine(
        model, engine=serving.engine, device=serving.device, precision=serving.precision
    )
    weights = f"weights {engine.weights_sha256[:12]}"
    return f"{weights}, {serving.engine} engine on {engine.device}, {engine.details}"


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
        serving = Serving(settings.models, settings.engine, settings.device, settings.precision)
    except ValidationError:  # the API's half of the doctor names what is missing
        serving = Serving()
    found = []
    for check in checks(serving):
        found.append(check.ok)
        sys.stdout.write(json.dumps(asdict(check)) + "\n")
        sys.stdout.flush()
    return 0 if all(found) else 1


if __name__ == "__main__":
    sys.exit(main())
