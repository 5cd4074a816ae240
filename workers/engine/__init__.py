"""Images and tensors only: decoding, the staged network, mask encoding. No database, no service.

Importing this package loads nothing heavy; `load_engine` does.
"""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workers.engine.network import Network


def load_engine(model: str, *, device: str = "auto", threads: int | None = None) -> "Network":
    """Load a network: "demo-sam3" (built in), a directory, or a name on the Hugging Face hub.

    `device` is auto (CUDA where there is a usable GPU, else the CPU), cpu, cuda or mps.
    `threads` is for the whole process: how many torch may use for one operation on the CPU.
    Raises `workers.engine.checkpoint.CheckpointError` with a reason fit for operators.
    """
    # Read once, when torch loads OpenMP. Its threads wait for each other by spinning, and on
    # cores that are shared with other processes spin on while the one awaited cannot run: 500 to
    # 1,800 ms an image instead of 100 on two busy cores, 210 to 330 with this, 100 on idle ones.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    from workers.engine.network import load

    return load(model, device=device, threads=threads)
