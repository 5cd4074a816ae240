from pathlib import Path

import pytest

from tests.unit.domain.hard_masks import FolderSink


@pytest.fixture
def sink(tmp_path: Path) -> FolderSink:
    return FolderSink(tmp_path / "export")
