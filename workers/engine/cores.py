"""How many cores a process may really use: torch counts those of the machine, a container may have
a share of them. Threads beyond that only wait for each other."""

import math
import os
from pathlib import Path

import torch

_CGROUP = Path("/sys/fs/cgroup")


def set_threads(wanted: int | None) -> None:
    """For the whole process: `wanted`, or as many as torch would take (OMP_NUM_THREADS) but no
    more than the container's share of cores."""
    threads = wanted or min(torch.get_num_threads(), usable_cores())
    if threads != torch.get_num_threads():
        torch.set_num_threads(threads)


def usable_cores(cgroup: Path = _CGROUP) -> int:
    """The machine's, or the quota of the control group (version 2, else 1) rounded up."""
    cores = os.cpu_count() or 1
    quota = _quota(cgroup)
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def _quota(cgroup: Path) -> float | None:
    try:
        if (cgroup / "cpu.max").exists():
            allowed, period = (cgroup / "cpu.max").read_text().split()
        else:
            allowed = (cgroup / "cpu/cpu.cfs_quota_us").read_text()
            period = (cgroup / "cpu/cpu.cfs_period_us").read_text()
        return int(allowed) / int(period) if int(allowed) > 0 else None
    except (OSError, ValueError):  # no control group, or "max"
        return None
