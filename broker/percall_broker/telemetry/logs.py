"""The process's own log: one JSON object a line, on stderr. What is logged is named here and there in the code.

Libraries log too, in words of their own. Of what they say, the first line of the fixed text is passed on, and neither
its values nor a traceback: those may show a request or a secret.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from typing import TextIO, cast

import structlog

_MOST_CHARACTERS = 200
_WARNINGS = "py.warnings"
_ORDINARY = frozenset({("uvicorn.error", "ASGI callable returned without completing response.")})
"""How an answer that has begun is broken off, as when a grant is revoked: no fault, whatever the library calls it."""

log = structlog.get_logger()


def configure() -> None:
    """For this process, ours and everybody's."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _Stderr())),
    )
    logging.captureWarnings(capture=True)
    logging.basicConfig(level=logging.WARNING, handlers=[_Libraries()], force=True)


def where(error: BaseException) -> str:
    """File and line of a fault, without the values that a traceback may show."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""


class _Stderr(io.TextIOBase):
    """The process's stderr. A full disk, or a reader that left, costs lines and never whoever writes them."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.flush()


class _Libraries(logging.Handler):
    """What the standard library's loggers are told."""

    def emit(self, record: logging.LogRecord) -> None:
        if (record.name, record.msg) in _ORDINARY:
            return
        kind = record.exc_info[0] if record.exc_info else None
        said = record.getMessage() if record.name == _WARNINGS else str(record.msg)  # which is `%s` there
        log.log(
            record.levelno,
            "a library says",
            library=record.name,
            says=said.partition("\n")[0][:_MOST_CHARACTERS],
            error=kind.__name__ if kind else "",
        )
