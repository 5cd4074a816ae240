import os
from pathlib import Path

import pytest

from workers.engine.cores import usable_cores

CORES = os.cpu_count() or 1


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("max 100000", CORES), ("50000 100000", 1), ("100000 100000", 1), ("9900000 100000", CORES)],
)
def test_a_container_has_the_cores_of_its_quota(tmp_path: Path, quota: str, expected: int) -> None:
    (tmp_path / "cpu.max").write_text(quota + "\n")
    assert usable_cores(tmp_path) == expected


@pytest.mark.parametrize(("quota", "expected"), [("-1", CORES), ("10000", 1)])
def test_the_older_control_groups_count_too(tmp_path: Path, quota: str, expected: int) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text(quota + "\n")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert usable_cores(tmp_path) == expected


def test_without_control_groups_all_cores_count(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == CORES
