"""A client's config file, read once and replaced whole, and only if it is still what was read.

The clients rewrite these files themselves, at any moment. What is compared last, right before the rename, is the file
itself (device, inode, time) and the digest of its bytes; a client that writes in the microseconds between that and the
rename is overwritten, and no file system that we know offers better.
"""

from __future__ import annotations

import contextlib
import glob
import os
import stat
import tempfile
import time
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from percall.clients import files
from percall.errors import UsageError, word

_SURELY_OVER_SECONDS = 60


def aside(path: Path) -> tuple[int, str]:
    """A new file beside one that will take its place, open to be written, for its owner alone. Raises OSError.

    It may hold pasted keys, so that what somebody who was killed left of this kind goes first.
    """
    prefix = f".{path.name}.percall-"
    for left in path.parent.glob(f"{glob.escape(prefix)}*"):
        with contextlib.suppress(OSError):  # another edit was quicker, or it is not ours to erase
            found = left.lstat()
            if stat.S_ISREG(found.st_mode) and found.st_mtime < time.time() - _SURELY_OVER_SECONDS:
                left.unlink()
    return tempfile.mkstemp(dir=path.parent, prefix=prefix)


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A config as it was read. `path` is where the bytes are: a link in its place was followed."""

    path: Path
    text: str = field(repr=False)  # may hold SECRET keys, never log
    digest: str
    status: tuple[int, ...]

    def replaced_by(self, text: str) -> None:
        """Writes another text in its place, atomically; owner and mode stay. Raises UsageError, and nothing is lost."""
        data = text.encode()
        folder = self.path.parent
        try:
            mode = self.path.stat()
            descriptor, temporary = aside(self.path)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.chmod(temporary, stat.S_IMODE(mode.st_mode))  # noqa: PTH101 - a name of mkstemp's
                if os.name == "posix" and (mode.st_uid, mode.st_gid) != (os.getuid(), os.getgid()):
                    os.chown(temporary, mode.st_uid, mode.st_gid)
                self._require_unchanged()
                os.replace(temporary, self.path)  # noqa: PTH105 - as above
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
            _sync(folder)
        except OSError as error:
            raise UsageError(
                "config.write",
                f"{self.path} cannot be replaced: {error.strerror}.",
                "Free some space, or mend the folder's permissions; the file is as it was.",
            ) from None

    def _require_unchanged(self) -> None:
        if read(self.path) != self:
            raise UsageError(
                "config.changed",
                f"{self.path} was changed by its client meanwhile; it was left alone.",
                "Close the client, then run this again.",
            )


def digest(data: bytes) -> str:
    """What stands for a file's bytes in a record."""
    return sha256(data).hexdigest()


def read(path: Path) -> ConfigFile:
    """A config file that may be replaced. Raises UsageError, saying what is wrong with it and what to do."""
    try:
        target = path.resolve(strict=True)
    except OSError as error:
        raise UsageError("config.read", f"{path} cannot be read: {error.strerror}.") from None
    data, status = files.read(target)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise UsageError("config.read", f"{path} is not UTF-8 text.") from None
    found = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
    return ConfigFile(target, text, digest(data), found)


def require_editable(file: ConfigFile) -> None:
    """Whether it is this user's to change, and nobody else's. Raises UsageError."""
    status, folder = file.path.stat(), file.path.parent
    if not status.st_mode & stat.S_IWUSR or not os.access(file.path, os.W_OK):
        step = f"Make it writable: chmod u+w {word(str(file.path))}"
        raise UsageError("config.read_only", f"{file.path} is read-only.", step)
    if not os.access(folder, os.W_OK):
        raise UsageError("config.read_only", f"{folder} is read-only, so {file.path.name} cannot be replaced.")
    if os.name == "posix" and status.st_mode & stat.S_IWOTH:
        raise UsageError(
            "config.exposed",
            f"Everybody on this machine may write {file.path}, and with it say what your client starts.",
            f"Take that away first: chmod o-w {word(str(file.path))}",
        )


def _sync(folder: Path) -> None:
    """The rename itself, durable."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
