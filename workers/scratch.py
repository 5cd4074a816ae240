"""Temporary folders that do not outlive their processes for long, however these end."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder below TMPDIR. First those go that killed processes have left there: a lock
    file beside each is held for as long as its process lives."""
    root = Path(tempfile.gettempdir(), f"maskmill-scratch-{os.getuid()}")
    root.mkdir(mode=0o700, exist_ok=True)
    _remove_left(root)
    folder = root / uuid4().hex
    lock = folder.with_suffix(".lock")
    with lock.open("x") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            lock.unlink(missing_ok=True)


def _remove_left(root: Path) -> None:
    for lock in root.glob("*.lock"):
        try:
            with lock.open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                lock.unlink(missing_ok=True)
        except (BlockingIOError, FileNotFoundError):  # it lives, or another was quicker
            continue
