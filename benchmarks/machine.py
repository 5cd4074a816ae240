"""What a result was measured on: stands beside every number."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch

PACKAGES = ("maskmill", "torch", "torchvision", "transformers", "celery", "sqlalchemy", "pyarrow")


def description() -> dict[str, str]:
    return {
        "processor": _processor(),
        "cores": str(torch.get_num_threads()),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "python": platform.python_version(),
        "commit": _commit(),
        **{name: version(name) for name in PACKAGES},
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor()
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0].partition(":")[2].strip() if names else platform.machine()


def _commit() -> str:
    head = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return head.stdout.strip() or "unknown"
