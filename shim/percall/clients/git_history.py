"""The history of a git repository that anybody may have made, read without running anything that it names.

A repository's own configuration names programs: to check signatures, to reach a remote for an object that is missing,
to show a difference. So its refs are listed, which needs none of them; and its objects are read by git from a folder of
our own, whose configuration is git's default (gitrepository-layout(5), GIT_OBJECT_DIRECTORY in git(1)).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from percall.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

_GIT_SECONDS = 120


@dataclass(frozen=True, slots=True)
class GitHistory:
    """What all refs lead to. Each method raises UsageError where git cannot read it."""

    _environment: dict[str, str] = field(repr=False)
    _tips: bytes
    _below: str

    def versions(self) -> Iterator[tuple[str, str]]:
        """Each version of each file below the folder: the object's name, and the path from the folder."""
        where = ("--", f":(literal){self._below}") if self._below else ()
        listed = self._git("rev-list", "--stdin", "--objects", *where, stdin=self._tips)
        for line in listed.decode(errors="replace").splitlines():
            name, _, path = line.partition(" ")
            if path:
                yield name, path.removeprefix(self._below)

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
    below = _asked(folder, theirs, "rev-parse", "--show-prefix")
    form = _asked(folder, theirs, "rev-parse", "--show-object-format")
    refs = _asked(folder, theirs, "for-each-ref", "--format=%(objectname)")
    head = _asked(folder, theirs, "rev-parse", "--verify", "--quiet", "HEAD")
    with tempfile.TemporaryDirectory(prefix="percall-scan-") as own:
        ours = {**theirs, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_DIR": own}
        _run(("init", "--quiet", "--bare", "--template=", f"--object-format={form or 'sha1'}", own), ours)
        if (shallow := common / "shallow").is_file():
            shutil.copyfile(shallow, Path(own, "shallow"))
        ours["GIT_OBJECT_DIRECTORY"] = str((common / "objects").absolute())
        yield GitHistory(ours, f"{refs}\n{head}\n".lstrip("\n").encode(), below)


def _asked(folder: Path, environment: dict[str, str], *arguments: str) -> str:
    """One answer of git's, empty where it has none."""
    done = _run(("-C", str(folder), *arguments), environment)
    return "" if done.returncode else done.stdout.decode(errors="surrogateescape").strip("\n")


def _run(
    arguments: tuple[str, ...], environment: dict[str, str], stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            ["git", "--no-pager", "--no-optional-locks", *arguments],
            input=stdin,
            capture_output=True,
            check=False,
            timeout=_GIT_SECONDS,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        raise UsageError("scan.git", f"git did not answer within {_GIT_SECONDS} s.") from None
