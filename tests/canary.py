"""A listener on loopback that nobody may ever reach."""

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest


class Canary:
    """Listens on a loopback port of every kind there is here, and counts who connects."""

    def __init__(self) -> None:
        self._listener = socket.create_server(
            ("::", 0), family=socket.AF_INET6, dualstack_ipv6=True
        )
        self.port: int = self._listener.getsockname()[1]

    def touched(self) -> bool:
        self._listener.setblocking(False)
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return False
        connection.close()
        return True

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def canary() -> Iterator[Canary]:
    """Fails the test when it was touched, whatever else the test says."""
    with closing(Canary()) as canary:
        yield canary
        assert not canary.touched(), "a forbidden connection was made"
