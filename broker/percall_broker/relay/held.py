"""Bytes of one message, until it is whole: in memory while they are few, then in a file that has no name any more.

So a hundred long messages at once cost disk, not memory; and one at a time is looked at.
"""

from __future__ import annotations

import tempfile
from typing import IO, TYPE_CHECKING, Self

from percall_broker.model.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

MEMORY_BYTES = 256 * 1024
PIECE_BYTES = 64 * 1024


class Held:
    """What has come of a message. Use in a `with` block, which forgets it. Raises Unavailable when the disk is full."""

    def __init__(self) -> None:
        self._memory = bytearray()
        self._file: IO[bytes] | None = None
        self.size = 0

    def __enter__(self) -> Self:
        """Use in a `with` block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Forgets the bytes."""
        if self._file is not None:
            self._file.close()

    @property
    def is_long(self) -> bool:
        """Whether it is more than memory should hold for each stream."""
        return self._file is not None

    def add(self, data: bytes | bytearray) -> None:
        """More of it."""
        self.size += len(data)
        if self._file is None:
            self._memory += data
            if len(self._memory) <= MEMORY_BYTES:
                return
            data, self._memory = self._memory, bytearray()
            self._file = _writable()
        try:
            self._file.write(data)
        except OSError:
            raise _full() from None

    def whole(self) -> bytes:
        """All of it."""
        if self._file is None:
            return bytes(self._memory)
        self._file.seek(0)
        return self._file.read()

    def replace(self, data: bytes) -> None:
        """Something else in its place."""
        if self._file is not None:
            self._file.seek(0)
            self._file.truncate()
        self._memory.clear()
        self.size = 0
        self.add(data)

    def pieces(self) -> Iterator[bytes]:
        """All of it, piece by piece."""
        if self._file is None:
            yield bytes(self._memory)
            return
        self._file.seek(0)
        while piece := self._file.read(PIECE_BYTES):
            yield piece


def _writable() -> IO[bytes]:
    try:
        return tempfile.TemporaryFile()
    except OSError:
        raise _full() from None


def _full() -> Unavailable:
    return Unavailable("broker.disk", "The broker has no room for the server's answer.")
