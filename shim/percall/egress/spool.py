"""A request body on its way to the broker: up to 1 MiB in memory, then in a file without a name.

The body must be complete before it is sent, because the proof covers it.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

from percall import wire
from percall.errors import WireError

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMORY_BYTES = 1024 * 1024
_CHUNK_BYTES = 128 * 1024


class Spool:
    """Bytes that are added, then read as often as needed."""

    def __init__(self) -> None:
        self.length = 0
        self._memory = bytearray()
        self._file: IO[bytes] | None = None

    def add(self, data: bytes | bytearray) -> None:
        """Add bytes at the end. Raises WireError (`egress.too_large`) past the limit, OSError when the disk is full."""
        self.length += len(data)
        if self.length > wire.MAX_EGRESS_BODY_BYTES:
            raise WireError(
                "egress.too_large",
                f"The request's body is larger than {wire.MAX_EGRESS_BODY_BYTES // (1024 * 1024)} MiB.",
                "Send it in parts.",
            )
        if self._file is None and self.length > MEMORY_BYTES:
            import tempfile  # noqa: PLC0415 - rarely needed

            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed by `close`
            _write_all(self._file, self._memory)
            self._memory = bytearray()
        if self._file is None:
            self._memory += data
        else:
            _write_all(self._file, data)

    def chunks(self) -> Iterator[bytes]:
        """The body from its beginning."""
        if self._file is None:
            if self._memory:
                yield bytes(self._memory)
            return
        self._file.seek(0)
        while chunk := self._file.read(_CHUNK_BYTES):
            yield chunk

    def close(self) -> None:
        """Forget the body."""
        self._memory = bytearray()
        if self._file is not None:
            self._file.close()


def _write_all(file: IO[bytes], data: bytes | bytearray) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
