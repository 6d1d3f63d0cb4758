"""One at a time in a broker's folder: whoever serves, migrates or restores holds its lock, until the process ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

from percall_broker.model.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Holds the folder's lock. Raises Unavailable when another process does, or the folder cannot be written."""
    try:
        lock = os.fdopen(os.open(folder / "serve.lock", os.O_WRONLY | os.O_CREAT, 0o600), "w")
    except OSError as error:
        raise Unavailable(
            "broker.home", f"The folder {folder} cannot be written: {error.strerror}.", "Run `percall-broker init`."
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Unavailable(
                "broker.running", f"Another broker serves the folder {folder}.", "Stop it first, or use another folder."
            ) from None
        yield
