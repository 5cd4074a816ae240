"""Files that only their owner may read (mode 0600, from the first byte on)."""

import os
from pathlib import Path


def open_private(path: Path, flags: int) -> int:
    """A descriptor. The mode holds for a file that this makes."""
    return os.open(path, flags | os.O_CREAT, mode=0o600)


def write_private(path: Path, text: str) -> None:
    """A new file in the place of any old one, on the disk when this returns."""
    path.unlink(missing_ok=True)
    with os.fdopen(open_private(path, os.O_WRONLY | os.O_EXCL), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
