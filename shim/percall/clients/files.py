"""Reading a file that anybody may have put into a repository: a pipe is not waited for, no device is set going."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from percall.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

MOST_BYTES = 64 * 1024 * 1024
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)


def read(file: Path) -> tuple[bytes, os.stat_result]:
    """A regular file's bytes, and its status. Raises UsageError, saying what is wrong with it."""
    try:
        _require_regular(file, file.stat())  # before it is opened, which alone sets some devices going
        descriptor = os.open(file, _FLAGS)  # never waiting: it may be another file by now
        with os.fdopen(descriptor, "rb") as opened:
            status = os.fstat(descriptor)
            _require_regular(file, status)
            data = opened.read(MOST_BYTES + 1)
    except OSError as error:
        raise UsageError("config.read", f"{file} cannot be read: {error.strerror}.") from None
    if len(data) > MOST_BYTES:
        raise UsageError("config.size", f"{file} is too large to be a config file.")
    return data, status


def _require_regular(file: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise UsageError("config.read", f"{file} is no config file.", "Is it a pipe, a device or a folder? Remove it.")
