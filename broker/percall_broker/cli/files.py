"""Files that a command line names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from percall.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


def text_of(file: Path) -> str:
    """All of it. Raises UsageError."""
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError("cli.file", f"{file} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise UsageError("cli.file", f"{file} is no text in UTF-8.") from None
