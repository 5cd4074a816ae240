import subprocess
import sys
from pathlib import Path

import pytest

from workers.scratch import scratch_folder

HOLD = """
from workers.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "large").write_bytes(b"x")
    print(folder, flush=True)
    input()
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


def test_a_scratch_folder_goes_with_its_block() -> None:
    with scratch_folder() as folder:
        (folder / "file").touch()
    assert not folder.exists()
    assert list(folder.parent.iterdir()) == []


def test_what_a_killed_process_left_goes_and_what_a_living_one_has_stays() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        theirs = Path(process.stdout.readline().strip())
        with scratch_folder() as ours:
            assert (theirs / "large").exists()
        process.kill()
    assert theirs.exists()
    with scratch_folder() as ours:
        assert not theirs.exists()
        assert [path.stem for path in ours.parent.glob("*.lock")] == [ours.name]
