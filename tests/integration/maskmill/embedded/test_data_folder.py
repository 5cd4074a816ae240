import os
import subprocess
import sys
from pathlib import Path

import pytest

from maskmill.embedded.data_folder import DataFolder, default_data_folder
from maskmill.embedded.errors import StackError

FOLDER_MODE = 0o711 if os.geteuid() == 0 else 0o700


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def prepared(path: Path) -> DataFolder:
    folder = DataFolder(path)
    folder.prepare()
    return folder


def test_a_new_folder_and_its_parts_are_closed_to_others(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "some" / "where")
    assert mode(folder.path) == FOLDER_MODE
    assert [mode(part) for part in (folder.logs, folder.objects, folder.valkey)] == [0o700] * 3


def test_an_empty_folder_is_closed_and_one_with_contents_keeps_its_mode(tmp_path: Path) -> None:
    for name in ("empty", "full"):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(0o755)
    (tmp_path / "full" / "photo.jpg").touch()
    assert mode(prepared(tmp_path / "empty").path) == FOLDER_MODE
    assert mode(prepared(tmp_path / "full").path) == 0o755


def test_a_folder_that_every_user_may_write_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(StackError, match="chmod o-w"):
        prepared(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's folder")
def test_another_users_folder_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12345)
    with pytest.raises(StackError, match="belongs to another user"):
        prepared(tmp_path)


def test_a_file_in_the_place_of_the_folder_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match=r"Cannot use .*/file as data folder"):
        prepared(tmp_path / "file")


def test_secrets_are_made_once_and_are_private(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "data")
    first = folder.secrets()
    assert folder.secrets() == first
    assert mode(folder.path / "secrets.json") == 0o600
    assert first.api_key.startswith("mm_")
    assert len(first.api_key) == len("mm_") + 43
    assert prepared(tmp_path / "other").secrets().api_key != first.api_key


def test_damaged_secrets_are_not_replaced(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "data")
    (folder.path / "secrets.json").write_text('{"instance": "1", "surprise": 2}')
    with pytest.raises(StackError, match=r"secrets\.json is damaged"):
        folder.secrets()


def test_a_second_stack_is_refused_at_once_and_told_who_is_there(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "data")
    refusal = rf"\(process {os.getpid()}\) uses the data folder .*--data"
    with folder.locked(), pytest.raises(StackError, match=refusal), folder.locked():
        pass


def test_the_folder_is_free_again_after_the_first_stack(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "data")
    for _ in range(2):
        with folder.locked():
            pass


def test_a_dead_stacks_children_are_waited_for(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "data")
    hold_on = "import sys; sys.stdin.read()"
    with folder.locked() as descriptor:
        child = subprocess.Popen(
            [sys.executable, "-c", hold_on], stdin=subprocess.PIPE, pass_fds=[descriptor]
        )
    (folder.path / "lock").write_text(str(dead_process_id()))
    with pytest.raises(StackError, match="Another stack"), folder.locked(patience_seconds=0.2):
        pass
    child.communicate()
    with folder.locked(patience_seconds=0.2):
        pass


def dead_process_id() -> int:
    with subprocess.Popen(["/bin/true"]) as process:
        return process.pid


def test_the_default_folder_follows_xdg_data_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/somewhere")
    assert default_data_folder() == Path("/somewhere/maskmill")
    monkeypatch.delenv("XDG_DATA_HOME")
    assert default_data_folder() == Path.home() / ".local" / "share" / "maskmill"
