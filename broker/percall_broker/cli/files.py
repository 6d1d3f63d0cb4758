"""Files that a command line names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from percall.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def text_of(file: Path) -> str:
    """All of it. Raises UsageError."""
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(
            "cli.file", f"{file} cannot be read: {error.strerror}.", "Check its path, and whose it is."
        ) from None
    except UnicodeDecodeError:
        raise UsageError("cli.file", f"{file} is no text in UTF-8.", "Save it as UTF-8.") from None


def write_new(folder: Path, texts: Mapping[str, str]) -> None:
    """Texts into a folder that is not there yet, by their path in it. Raises UsageError, also for a path that leads out
    of it: where it comes from is not to say what else is written here.
    """
    for name in texts:
        if not name.isprintable() or not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise UsageError("cli.file", f"{name!r} is no file's path in a folder.", "Nothing was written.")
    try:
        folder.mkdir(parents=True)
        for name, text in texts.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
    except FileExistsError:
        raise UsageError("cli.file", f"{folder} is there already.", "Name a new folder.") from None
    except OSError as error:
        raise UsageError(
            "cli.file", f"{folder} cannot be written: {error.strerror}.", "Name a new folder where you may write."
        ) from None
