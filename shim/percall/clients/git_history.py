"""The history of a git repository that anybody may have made, read without running anything that it names.

A repository's own configuration names programs: to check signatures, to reach a remote for an object that is missing,
to show a difference. So its refs are listed, which needs none of them; and its objects are read by git from a folder of
our own, whose configuration is git's default (gitrepository-layout(5), GIT_OBJECT_DIRECTORY in git(1)). A link in the
place of a file of git's own is not followed: git prints lines that it does not understand.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from percall.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_GIT_SECONDS = 120
_ASKED_SECONDS = 20
"""What is asked of their repository is answered at once, or waits for a pipe that stands where a file should."""
_MOST_BYTES = 4 * 1024 * 1024
"""Of a version that is read: no config is as large, and a history may hold anything."""
_OBJECT = re.compile(rb"^(?:[0-9a-f]{40}|[0-9a-f]{64})$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class GitHistory:
    """What all refs lead to. Each method raises UsageError where git cannot read it."""

    _environment: dict[str, str] = field(repr=False)
    _tips: bytes
    _below: str

    def versions(self, wanted: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
        """Each version of each wanted file below the folder: the object's name, and the path from the folder.

        Folders are none, nor is what is too large to be a config.
        """
        where = ("--", f":(literal){self._below}") if self._below else ()
        listed = self._git("rev-list", "--stdin", "--objects", *where, stdin=self._tips).decode(errors="replace")
        found: dict[tuple[str, str], None] = {}
        for line in listed.split("\n"):
            name, _, path = line.partition(" ")
            if path and wanted(path := path.removeprefix(self._below)):
                found[name, path] = None
        about = self._git(
            "cat-file", "--batch-check=%(objecttype) %(objectsize)", stdin=_lines(name for name, _ in found)
        )
        for (name, path), line in zip(found, about.decode().splitlines(), strict=True):
            kind, _, size = line.partition(" ")
            if size == "missing":
                raise UsageError("scan.git", f"git could not read the history: {name} is missing.")
            if kind == "blob" and int(size) <= _MOST_BYTES:
                yield name, path

    def text(self, name: str) -> str:
        """A version's text."""
        return self._git("cat-file", "blob", name).decode("utf-8", errors="replace")

    def first_commit(self, name: str) -> str:
        """The commit that a version came with, by git's short name; empty where none did."""
        found = self._git("log", "--stdin", "--format=%h", f"--find-object={name}", stdin=self._tips).decode().split()
        return found[-1] if found else ""

    def _git(self, *arguments: str, stdin: bytes = b"") -> bytes:
        done = _run(arguments, self._environment, stdin)
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise UsageError("scan.git", f"git could not read the history: {said[-1] if said else 'no reason given'}.")
        return done.stdout


@contextmanager
def opened(folder: Path) -> Iterator[GitHistory | None]:
    """The history of the repository that a folder lies in; None where it lies in none, or git is not installed.

    Raises UsageError.
    """
    theirs = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    if shutil.which("git") is None or _asked(folder, theirs, "rev-parse", "--is-inside-work-tree") != "true":
        yield None
        return
    common = folder / _asked(folder, theirs, "rev-parse", "--git-common-dir")
    alternates = common / "objects" / "info" / "alternates"
    if os.path.lexists(alternates) and not _is_plain(alternates):
        raise UsageError("scan.git", f"git could not read the history: {alternates} is no file.")
    below = _asked(folder, theirs, "rev-parse", "--show-prefix")
    form = _asked(folder, theirs, "rev-parse", "--show-object-format")
    refs = _asked(folder, theirs, "for-each-ref", "--format=%(objectname)")
    head = _asked(folder, theirs, "rev-parse", "--verify", "--quiet", "HEAD")
    with tempfile.TemporaryDirectory(prefix="percall-scan-") as own:
        ours = {**theirs, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_DIR": own}
        _run(("init", "--quiet", "--bare", "--template=", f"--object-format={form or 'sha1'}", own), ours)
        if _is_plain(shallow := common / "shallow"):
            Path(own, "shallow").write_bytes(b"".join(name + b"\n" for name in _OBJECT.findall(shallow.read_bytes())))
        ours["GIT_OBJECT_DIRECTORY"] = str((common / "objects").absolute())
        yield GitHistory(ours, _there(ours, [*refs.split(), *head.split()]), below)


def _is_plain(file: Path) -> bool:
    """Whether it is a file, and no link to one."""
    return file.is_file() and not file.is_symlink()


def _there(ours: dict[str, str], tips: list[str]) -> bytes:
    """Those of the tips that lead to something, as git reads them."""
    about = _run(("cat-file", "--batch-check=%(objectname)"), ours, _lines(tips)).stdout.decode()
    return _lines(line for line in about.splitlines() if not line.endswith(" missing"))


def _lines(names: Iterable[str]) -> bytes:
    return "".join(f"{name}\n" for name in names).encode()


def _asked(folder: Path, environment: dict[str, str], *arguments: str) -> str:
    """One answer of git's, empty where it has none."""
    done = _run(("-C", str(folder), *arguments), environment, seconds=_ASKED_SECONDS)
    return "" if done.returncode else done.stdout.decode(errors="surrogateescape").strip("\n")


def _run(
    arguments: tuple[str, ...], environment: dict[str, str], stdin: bytes = b"", *, seconds: int = _GIT_SECONDS
) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            ["git", "--no-pager", "--no-optional-locks", *arguments],
            input=stdin,
            capture_output=True,
            check=False,
            timeout=seconds,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        raise UsageError("scan.git", f"git did not answer within {seconds} s.") from None
