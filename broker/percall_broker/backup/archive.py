"""The file of a backup: lines of JSON, the same for both engines, closed by a digest and a MAC over all before them.

    {"percall_backup": 1, …}                        what it is, and the MAC's key, wrapped by a key-encryption key
    {"table": "grants", "columns": ["id", …]}       then its rows, one array a line; bytes as {"b": "<base64>"}
    …
    {"sha256": "…", "mac": "…"}                     without this last line, the file is half of a backup

What is sealed in the store stays sealed here, and no key-encryption key is ever in it. Nothing of a file is used before
its digest holds, and nothing is restored before its MAC does.
"""

from __future__ import annotations

import base64
import contextlib
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import msgspec

from percall_broker.crypto import base64url, sodium
from percall_broker.model.errors import InvalidInput, Unavailable
from percall_broker.store.offline import Table
from percall_broker.vault.sources import Wrapped

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from pathlib import Path

FORMAT = 1
CONTEXT = b'["backup","mac"]'
"""What the MAC's wrapped key is bound to."""
_MAX_LINE_BYTES = 256 * 1024 * 1024
_MAX_HEADER_BYTES = 64 * 1024
_MOST_SECONDS = 1 << 37
"""Some 4,000 years: what can be written as a date."""
_PURPOSE = b"percall backup 1\n"


@dataclass(frozen=True, slots=True)
class Header:
    """The first line. `created_at` in seconds; `migrations` are the names of those that the store had."""

    created_at: int
    percall: str
    engine: str
    migrations: tuple[str, ...]
    wrapped: Wrapped

    def numbers(self) -> set[int]:
        """The migrations' numbers."""
        return {int(name[:4]) for name in self.migrations}

    def line(self) -> dict[str, Any]:
        """As it is written."""
        return {
            "percall_backup": FORMAT,
            "created_at": self.created_at,
            "percall": self.percall,
            "engine": self.engine,
            "migrations": self.migrations,
            "key_encryption_key": self.wrapped.key,
            "wrapped_key": base64url.encode(self.wrapped.ciphertext),
        }

    @classmethod
    def read(cls, line: bytes) -> Self:
        """Raises InvalidInput for what is no backup, Unavailable for one of a newer version."""
        try:
            members = msgspec.json.decode(line)
            version = members["percall_backup"]
            if type(version) is int and version > FORMAT:
                raise Unavailable(
                    "backup.newer", "A newer version of Percall made this backup.", "Restore it with that version."
                )
            return cls(
                created_at=_moment(members["created_at"]),
                percall=str(members["percall"]),
                engine=str(members["engine"]),
                migrations=tuple(f"{int(name[:4]):04}{name[4:]}" for name in members["migrations"]),
                wrapped=Wrapped(str(members["key_encryption_key"]), base64url.decode(members["wrapped_key"])),
            )
        except (msgspec.DecodeError, KeyError, TypeError, ValueError):
            raise InvalidInput(
                "backup.form",
                "This file is not a backup of Percall's.",
                "Name one that `percall-broker backup create` wrote.",
            ) from None


def write(
    file: BinaryIO, header: Header, mac_key: bytes, tables: Iterable[tuple[Table, Generator[tuple[Any, ...]]]]
) -> None:
    """A whole backup. Raises OSError. The rows are closed here: an engine lets no other thread do it."""
    digest = sha256()

    def put(value: Any) -> None:
        line = msgspec.json.encode(value) + b"\n"
        digest.update(line)
        file.write(line)

    put(header.line())
    for table, rows in tables:
        put({"table": table.name, "columns": table.columns})
        with contextlib.closing(rows):
            for row in rows:
                put([{"b": value} if type(value) is bytes else value for value in row])
    trailer = {"sha256": digest.hexdigest(), "mac": base64url.encode(_mac(mac_key, digest.digest()))}
    file.write(msgspec.json.encode(trailer) + b"\n")


class Archive:
    """A backup that was read to its end, and whose digest holds. It stays open, so that it stays the same file."""

    def __init__(self, path: Path) -> None:
        """Raises InvalidInput when it is no backup, half of one, or altered; Unavailable when it cannot be read."""
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise Unavailable(
                "backup.read", f"{path} cannot be read: {error.strerror}.", "Name a backup's file."
            ) from None
        try:
            self.header = Header.read(self._file.readline(_MAX_HEADER_BYTES))
            self._digest, self._mac = self._verified()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        """The archive itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the file."""
        self._file.close()

    def is_made_with(self, mac_key: bytes) -> bool:
        """Whether the MAC holds: nobody without the key-encryption key has made or altered this file."""
        return sodium.same(self._mac, _mac(mac_key, self._digest))

    def tables(self) -> Iterator[tuple[Table, Iterator[tuple[Any, ...]]]]:
        """The tables in their order; each one's rows are to be read before the next is asked for.

        Raises InvalidInput where the file is not in its form, or is another one than was verified.
        """
        lines = self._lines()
        next(lines)
        line = next(lines, b"")
        while line:
            try:
                members = msgspec.json.decode(line)
                table = Table(str(members["table"]), tuple(map(str, members["columns"])))
            except (msgspec.DecodeError, KeyError, TypeError):
                raise _damaged() from None
            rows = _Rows(lines, len(table.columns))
            yield table, iter(rows)
            line = rows.following

    def _verified(self) -> tuple[bytes, bytes]:
        self._file.seek(0)
        digest, last = sha256(), b""
        while line := self._file.readline(_MAX_LINE_BYTES):
            digest.update(last)
            last = line
        try:
            trailer = msgspec.json.decode(last) if last.endswith(b"\n") else {}
            said, mac = bytes.fromhex(trailer["sha256"]), base64url.decode(trailer["mac"])
        except (msgspec.DecodeError, KeyError, TypeError, ValueError):
            raise InvalidInput(
                "backup.half", "This backup was not written to its end.", "Use another one; this one restores nothing."
            ) from None
        if not sodium.same(said, digest.digest()):
            raise _damaged()
        return said, mac

    def _lines(self) -> Iterator[bytes]:
        """All lines but the last, which must still close what was verified."""
        self._file.seek(0)
        digest, last = sha256(), b""
        while line := self._file.readline(_MAX_LINE_BYTES):
            if last:
                digest.update(last)
                yield last
            last = line
        if digest.digest() != self._digest:
            raise _damaged()


class _Rows:
    """The rows of one table; `following` is the line that ends them, empty at the end of the file."""

    def __init__(self, lines: Iterator[bytes], width: int) -> None:
        self._lines = lines
        self._width = width
        self.following = b""

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for line in self._lines:
            if not line.startswith(b"["):
                self.following = line
                return
            try:
                row = tuple(base64.b64decode(v["b"]) if type(v) is dict else v for v in msgspec.json.decode(line))
            except (msgspec.DecodeError, KeyError, TypeError, ValueError):
                raise _damaged() from None
            if len(row) != self._width:
                raise _damaged()
            yield row


def _moment(seconds: Any) -> int:
    """Raises TypeError, ValueError."""
    if not 0 <= int(seconds) < _MOST_SECONDS:
        raise ValueError
    return int(seconds)


def _mac(key: bytes, digest: bytes) -> bytes:
    return sodium.mac(key, _PURPOSE + digest)


def _damaged() -> InvalidInput:
    return InvalidInput(
        "backup.damaged", "This backup is not as it was written.", "Use another one; this one restores nothing."
    )
