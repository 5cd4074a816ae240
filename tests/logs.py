"""Logging as the service sets it up, for the time of a test."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from storage.logs import configure_logging


@contextmanager
def logging_as(log_format: str) -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    configure_logging(log_format)
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()
