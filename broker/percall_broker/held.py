"""Bytes of one message, until it is whole: in memory while they are few, then in a file that has no name any more.

So a hundred long messages at once cost disk, not memory; and one at a time is looked at.
"""

from __future__ import annotations

import tempfile
from typing import IO, TYPE_CHECKING, Self

from percall_broker.model.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMORY_BYTES = 256 * 1024
PIECE_BYTES = 64 * 1024


class Held:
    """What has come of a message, which `what` calls by its name. Use in a `with` block, which forgets it.

    Raises Unavailable when the disk is full, in `add` and `replace` alone: nothing is written later.
    """

    def __init__(self, what: str, memory_bytes: int = MEMORY_BYTES) -> None:
        self._what = what
        self._memory_bytes = memory_bytes
        self._memory = bytearray()
        self._file: IO[bytes] | None = None
        self.size = 0

    def __enter__(self) -> Self:
        """Use in a `with` block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Forgets the bytes."""
        self.forget()

    def forget(self) -> None:
        """Of no use any more."""
        if self._file is not None:
            self._file.close()

    @property
    def is_long(self) -> bool:
        """Whether it is more than memory should hold for each stream."""
        return self._file is not None

    def add(self, data: bytes | bytearray) -> None:
        """More of it."""
        self.size += len(data)
        if self._file is None and self.size <= self._memory_bytes:
            self._memory += data
            return
        try:
            if self._file is None:
                # Unbuffered: what a buffer kept back would fail where nobody expects it, in `seek` or `close`.
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed in __exit__
                _write(self._file, self._memory)
                self._memory = bytearray()
            _write(self._file, data)
        except OSError:
            raise Unavailable("broker.disk", f"The broker has no room for {self._what}.") from None

    def whole(self, start: int = 0) -> bytes:
        """All of it, or what follows its first bytes."""
        return next(self.pieces(start, self.size), b"")

    def beginning(self, size: int) -> bytes:
        """Its first bytes."""
        return next(self.pieces(0, size), b"")

    def replace(self, data: bytes) -> None:
        """Something else in its place."""
        if self._file is not None:
            self._file.seek(0)
            self._file.truncate()
        self._memory.clear()
        self.size = 0
        self.add(data)

    def pieces(self, start: int = 0, size: int = PIECE_BYTES) -> Iterator[bytes]:
        """All of it, or what follows its first bytes, piece by piece."""
        for at in range(start, self.size, size or 1):
            if self._file is None:
                yield bytes(self._memory[at : at + size])
            else:
                self._file.seek(at)
                yield self._file.read(size)


def _write(file: IO[bytes], data: bytes | bytearray) -> None:
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
