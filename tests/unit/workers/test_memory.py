import sys
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from workers.memory import device_memory, memory, usable_bytes


def test_without_a_device_it_is_the_process_on_the_machine() -> None:
    found = memory()
    assert 2**20 < found.used_bytes < found.total_bytes
    assert found.total_bytes <= psutil.virtual_memory().total


@pytest.mark.parametrize(
    ("limit", "is_it"), [("1048576\n", True), ("max\n", False), (f"{2**62}\n", False)]
)
def test_a_container_has_what_its_group_allows(tmp_path: Path, limit: str, is_it: bool) -> None:
    (tmp_path / "memory.max").write_text(limit)
    assert usable_bytes(tmp_path) == (2**20 if is_it else psutil.virtual_memory().total)


def test_a_machine_without_control_groups_has_all_its_memory(tmp_path: Path) -> None:
    assert usable_bytes(tmp_path) == psutil.virtual_memory().total


@pytest.mark.parametrize("has_cuda", [False, True])
def test_a_torch_that_is_just_being_imported_says_nothing(
    monkeypatch: pytest.MonkeyPatch, has_cuda: bool
) -> None:
    half = ModuleType("torch")
    if has_cuda:
        half.cuda = ModuleType("torch.cuda")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", half)
    assert device_memory() == {}
