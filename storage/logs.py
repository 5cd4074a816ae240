"""Logs are events with fields, written to stderr in one form by every process."""

import logging
import sys
from io import StringIO
from typing import Any, TextIO

import structlog

from domain.printable import printable
from storage.tracing import current_trace_id


def configure_logging(log_format: str) -> None:
    """`console` for people, `json` for machines. The libraries' own loggers end up here too."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        _trace_id,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *_renderers(log_format),
        ],
    )
    handler = _Stderr()
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [h for h in root.handlers if not isinstance(h, _Stderr)] + [handler]
    root.setLevel(logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # logs whole URLs, signatures included
    logging.getLogger("botocore.credentials").setLevel(logging.WARNING)  # says each time where from


class _Stderr(logging.Handler):
    """Writes to what is sys.stderr at that moment; called again, the latest one counts."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except Exception:
            self.handleError(record)


def _renderers(log_format: str) -> list[structlog.types.Processor]:
    if log_format == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return [
        _escape_texts,
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=_escaped_traceback
        ),
    ]


def _trace_id(
    _logger: Any, _method: str, event: structlog.types.EventDict
) -> structlog.types.EventDict:
    if trace_id := current_trace_id():
        event["trace_id"] = trace_id
    return event


def _escape_texts(
    _logger: Any, _method: str, event: structlog.types.EventDict
) -> structlog.types.EventDict:
    """Values that are no text are shown by their repr, which escapes already."""
    return {
        name: printable(value, keep="\n" if name == "stack" else "")
        if isinstance(value, str)
        else value
        for name, value in event.items()
    }


def _escaped_traceback(file: TextIO, exc_info: structlog.types.ExcInfo) -> None:
    text = StringIO()
    structlog.dev.plain_traceback(text, exc_info)
    file.write(printable(text.getvalue(), keep="\n"))
