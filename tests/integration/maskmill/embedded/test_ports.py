import socket

from maskmill.embedded.ports import free_port, is_free


def test_a_port_that_somebody_holds_without_listening_is_not_free() -> None:
    """They could listen later, and be told a password that was meant for our server."""
    port = free_port()
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", port))
        assert not is_free("127.0.0.1", port)
    assert is_free("127.0.0.1", port)
