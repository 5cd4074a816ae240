"""The API under uvicorn, for what speaks HTTP to it."""

import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Its address, as long as it runs (in a thread of this process)."""
    logging.disable()  # the log is not what the command under test says
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        deadline = time.monotonic() + 20
        while not server.started:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        host, port = listener.getsockname()
        yield f"http://{host}:{port}"
        server.should_exit = True
        thread.join(20)
    logging.disable(logging.NOTSET)
