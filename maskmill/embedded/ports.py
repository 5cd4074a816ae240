"""Ports on this machine."""

import random
import socket

from maskmill.embedded.errors import StackError

# Below the range from which Linux and macOS take ports for outgoing connections and port 0, so that
# nobody takes a server's port by chance between two of its starts.
_LOWEST, _HIGHEST = 15_000, 30_000


def free_port() -> int:
    """A port of 127.0.0.1 that nobody holds now."""
    while True:
        port = random.randint(_LOWEST, _HIGHEST)  # noqa: S311 - no secret
        if is_free("127.0.0.1", port):
            return port


def is_free(host: str, port: int, *, reuse_address: bool = False) -> bool:
    """With `reuse_address` a port counts as free that others are bound to but do not listen on,
    and so does one with connections of an earlier server that are still closing."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse_address)
        try:
            listener.bind((host, port))
        except OSError:
            return False
    return True


def claimed_port(host: str, port: int) -> int:
    """`port`, or a free one for 0. StackError if it is taken or `host` no address of ours."""
    if port == 0:
        return free_port()
    if not is_free(host, port, reuse_address=True):  # the server stopped just now had it
        raise StackError(
            f"Cannot listen on {host} port {port}: the port is in use, or that is no address of "
            "this machine. Choose another with --port (0 takes a free one)."
        )
    return port
