"""The folder that holds all of the embedded stack: database, queue, objects, secrets, logs."""

import contextlib
import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from maskmill.embedded.errors import StackError
from maskmill.embedded.private_files import open_private, write_private


def default_data_folder() -> Path:
    data_home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data_home) / "maskmill"


_secret = partial(secrets.token_urlsafe, 32)


@dataclass(frozen=True)
class Secrets:
    """Made once for a data folder. `instance` names the folder where its path will not do."""

    instance: str = field(default_factory=lambda: secrets.token_hex(8))
    postgres_password: str = field(default_factory=_secret)
    valkey_password: str = field(default_factory=_secret)
    signing_secret: str = field(default_factory=_secret)
    api_key: str = field(default_factory=lambda: "mm_" + _secret())


@dataclass(frozen=True)
class DataFolder:
    path: Path

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def objects(self) -> Path:
        return self.path / "objects"

    @property
    def valkey(self) -> Path:
        return self.path / "valkey"

    @property
    def postgres(self) -> Path:
        return self.path / "postgres"

    def prepare(self) -> None:
        """Makes what is missing, each part with mode 0700."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._refuse_what_others_may_write()
            if not any(self.path.iterdir()):
                self._close()
            for part in (self.logs, self.objects, self.valkey):
                part.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StackError(f"Cannot use {self.path} as data folder: {error.strerror}.") from error

    def _close(self) -> None:
        """0700; root's 0711, since PostgreSQL runs as another user then and must pass through.
        Only for an empty folder: one with other contents keeps the mode that its user gave it."""
        self.path.chmod(0o711 if os.geteuid() == 0 else 0o700)

    def _refuse_what_others_may_write(self) -> None:
        status = self.path.stat()
        if status.st_uid != os.geteuid():
            raise StackError(
                f"The data folder {self.path} belongs to another user. "
                "Start as that user, or give another folder with --data."
            )
        if status.st_mode & 0o002:
            raise StackError(
                f"Every user may write to the data folder {self.path}. "
                f"Close it with `chmod o-w {self.path}`, or give another one with --data."
            )

    def secrets(self) -> Secrets:
        """Those of secrets.json (0600), made at the first call."""
        path = self.path / "secrets.json"
        if path.exists():
            return _read_secrets(path)
        made = Secrets()
        unfinished = path.with_suffix(".new")
        write_private(unfinished, json.dumps(asdict(made), indent=2))
        unfinished.replace(path)
        return made

    @contextlib.contextmanager
    def locked(self, *, patience_seconds: float = 30.0) -> Iterator[int]:
        """Yields the descriptor that holds the lock, to be inherited by every child: the lock is
        free only when the last process of an earlier stack is gone, also after SIGKILL.

        Raises StackError at once if that stack is alive, else after `patience_seconds`.
        """
        path = self.path / "lock"
        descriptor = open_private(path, os.O_RDWR)
        try:
            self._take_lock(descriptor, patience_seconds)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            yield descriptor
        finally:
            os.close(descriptor)

    def _take_lock(self, descriptor: int, patience_seconds: float) -> None:
        deadline = time.monotonic() + patience_seconds
        while True:
            with contextlib.suppress(BlockingIOError):
                return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            holder = os.pread(descriptor, 20, 0).decode()
            if _is_alive(holder) or time.monotonic() > deadline:
                raise StackError(
                    f"Another stack (process {holder}) uses the data folder {self.path}. "
                    "Stop it, or give another folder with --data."
                )
            time.sleep(0.05)


def _read_secrets(path: Path) -> Secrets:
    try:
        return Secrets(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise StackError(f"{path} is damaged: {error}. Put it back from a copy.") from error


def _is_alive(process_id: str) -> bool:
    try:
        os.kill(int(process_id), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
