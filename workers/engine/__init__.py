"""Images and tensors only: decoding, the staged network, mask encoding. No database, no service.

Importing this package loads nothing heavy; `load_engine` does.
"""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workers.engine.engine import Engine

# The one thing done at import, because OpenMP reads it once, when torch is imported. Its threads
# wait for each other by spinning, and on cores shared with other processes they spin on while
# the one awaited cannot run. Demo network, 16 prompts, two cores: 700 to 1,800 ms an image beside
# other work, 210 to 330 with a short spin; on idle cores 100 either way.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def load_engine(
    model: str,
    *,
    engine: str = "staged",
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    memory_share: float = 1.0,
) -> "Engine":
    """Load a network: "demo-sam3" (built in), a directory, a sam3.pt, or a name on the Hugging
    Face hub.

    `engine` is staged (ours) or reference (Meta's own code; CUDA and sam3.pt only).
    `device` is auto (CUDA where there is a usable GPU, else the CPU), cpu, cuda or mps.
    `precision` is auto (bfloat16 on CUDA, which is how the published network was trained and is
    served, float32 elsewhere), float32, bfloat16, or float8 (the ViT only; newer CUDA devices).
    `threads` is for the whole process: how many torch may use for one operation on the CPU.
    `memory_share` is what the process may take of a CUDA device's memory, where it is not alone on
    it (staged only).
    Raises `workers.engine.checkpoint.CheckpointError` with a reason fit for operators.
    """
    if engine == "reference":
        from workers.engine.reference_checkpoint import load_reference

        return load_reference(model, device=device, precision=precision)
    if engine != "staged":
        raise ValueError(f"engine {engine!r}: neither staged nor reference")
    from workers.engine.network import load

    return load(
        model, device=device, precision=precision, threads=threads, memory_share=memory_share
    )
