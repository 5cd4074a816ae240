"""Memory that this process has, and all there is where it has it."""

import sys
from pathlib import Path
from typing import Any

import psutil

from storage.presence import Memory

_CGROUP = Path("/sys/fs/cgroup")


def memory() -> Memory:
    """Of the CUDA device where one is in use, else of the machine."""
    found = device_memory()
    if found:
        return Memory(found["reserved"], found["total"])
    return Memory(psutil.Process().memory_info().rss, usable_bytes())


def device_memory() -> dict[str, int]:
    """Of the CUDA device: what tensors have, what this process has, and all there is. Nothing where
    there is none, or none is in use yet: asking would open it. Asks nothing of the device, which
    may be recording a graph just then."""
    torch: Any = sys.modules.get("torch")
    cuda: Any = getattr(torch, "cuda", None)  # none, or half of it, while torch is being imported
    if not hasattr(cuda, "is_initialized") or not cuda.is_initialized():
        return {}
    return {
        "allocated": cuda.memory_allocated(),
        "reserved": cuda.memory_reserved(),
        "total": cuda.get_device_properties(cuda.current_device()).total_memory,
    }


def usable_bytes(cgroup: Path = _CGROUP) -> int:
    """The machine's memory, or what the control group (version 2) allows."""
    total: int = psutil.virtual_memory().total
    try:
        return min(total, int((cgroup / "memory.max").read_text()))
    except (OSError, ValueError):  # no control group, or "max"
        return total
