"""SQLite's write-ahead log, kept at one size: a commit overwrites blocks that the file has, and waits half as long.

A commit that makes the file longer waits for the file system's own journal too. So the file is filled with zeros up
to a size, once, and folded into the database often enough that it never outgrows it. SQLite takes a frame for valid
by its checksum and salt alone, so what lies behind the last commit means nothing to it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from percall_broker.store.protocol import Statement

RESERVED_BYTES = 12 * 1024 * 1024
"""The size that the file is brought to."""
FOLD_BYTES = 4 * 1024 * 1024
"""So much is written, by our own estimate, before it is copied into the database."""
_FIRST_COMMITS = 16
_STEP = bytes(1024 * 1024)
_STATEMENT_BYTES = 20 * 1024
"""A statement's row, and the pages of the indexes that it changes: more rather than less."""


class WriteAheadLog:
    """What the one writer of a store knows of its log's file."""

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(database.name + "-wal")
        self._commits = 0
        self._written = 0
        self._is_reserved = False

    def begun(self) -> None:
        """A transaction has begun: nobody else can write, so the file may be made longer, a step at a time.

        Not in the first commits: a process that makes only a few needs no reserve.
        """
        self._commits += 1
        if self._is_reserved or self._commits <= _FIRST_COMMITS:
            return
        try:
            with self._path.open("r+b", buffering=0) as file:
                size = file.seek(0, os.SEEK_END)
                file.write(_STEP)
            self._is_reserved = size + len(_STEP) >= RESERVED_BYTES
        except OSError:
            self._is_reserved = True  # no room for a reserve: each commit makes its own, or says why it cannot

    def written(self, statements: tuple[Statement, ...]) -> None:
        """These were committed."""
        for statement in statements:
            self._written += _STATEMENT_BYTES
            for value in statement.parameters.values():
                if type(value) is bytes:
                    self._written += len(value)

    def is_long(self) -> bool:
        """Whether it is time to fold the log into the database."""
        return self._written >= FOLD_BYTES

    def folded(self) -> None:
        """The next commit begins at the file's start again."""
        self._written = 0
