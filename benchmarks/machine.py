"""What a result was measured on: stands beside every number."""

import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PACKAGES = (
    "maskmill",
    "torch",
    "torchvision",
    "transformers",
    "numpy",
    "pillow",
    "sam3",
    "celery",
    "sqlalchemy",
    "pyarrow",
)


def description() -> dict[str, str]:
    """Only of those packages that are installed."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        **({"cuda": str(torch.version.cuda)} if torch.cuda.is_available() else {}),
        "python": platform.python_version(),
        "commit": _commit(),
        **_versions(),
    }


def folder_name(device: torch.device) -> str:
    """Of results on this machine: nvidia-h200, cpu-2-cores."""
    if device.type == "cuda":
        return re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name(device).lower()).strip("-")
    return f"{device.type}-{os.cpu_count()}-cores"


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor()
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0].partition(":")[2].strip() if names else platform.machine()


def _commit() -> str:
    try:
        head = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:  # no git here
        return "unknown"
    return head.stdout.strip() or "unknown"
