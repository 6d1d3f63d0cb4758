"""Every MCP server of every client on this machine: which hold a pasted key, which are Percall's already.

Looks at the users' files, the project files of the folders that clients know of, and, where a folder is named, at all
of that folder, its git history, and the copies that clients keep of their own config. Never prints, never changes.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from percall.clients import copies, git_history, servers
from percall.clients.catalogue import CLIENTS, Client, clients_of, original, project_files, user_files
from percall.clients.pasted import key_in
from percall.errors import PercallError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from percall.clients.servers import ConfiguredServer

PASTED, CLEAR, PERCALL = "pasted key", "no key", "percall"
CONFIG, BACKUP, HISTORY = "config", "backup", "history"
_SKIPPED = frozenset({".git", "node_modules", ".venv", "venv", "__pycache__", ".tox", "site-packages"})


@dataclass(frozen=True, slots=True)
class Finding:
    """A server as it was found. `origin` is config, backup or history; `commit` names where in the history.

    `keys` numbers the secrets of this scan: the same number, the same key.
    """

    server: ConfiguredServer
    origin: str
    commit: str = ""
    keys: tuple[int, ...] = ()
    others_may_read: bool = False

    @property
    def state(self) -> str:
        """Pasted key, percall, or no key."""
        if self.server.secrets:
            return PASTED
        return PERCALL if self.server.percall else CLEAR


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file that could not be read, and why."""

    client: Client
    file: Path
    error: PercallError


@dataclass(slots=True)
class Scan:
    """What a scan found, in the order of the catalogue of clients."""

    findings: list[Finding] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    unread_history: PercallError | None = None
    _numbers: dict[str, int] = field(default_factory=dict, repr=False)  # SECRET keys, never log

    def add_file(self, client: Client, file: Path, origin: str) -> None:
        """The servers of a file."""
        try:
            found = servers.in_file(client, file)
            mode = file.stat().st_mode
        except OSError as error:
            self.unreadable.append(Unreadable(client, file, UsageError("config.read", f"{file}: {error.strerror}.")))
        except PercallError as error:
            self.unreadable.append(Unreadable(client, file, error))
        else:
            exposed = os.name == "posix" and bool(mode & (stat.S_IRGRP | stat.S_IROTH))
            self._add(found, origin, others_may_read=exposed)

    def add_text(self, client: Client, file: Path, text: str, first_commit: Callable[[], str]) -> None:
        """The servers of a file as it once was; what cannot be read there is nobody's concern any more.

        `first_commit` is asked where something is found alone: it goes through all of the history.
        """
        try:
            found = servers.in_text(client, file, text)
        except PercallError:
            return
        if pasted := [server for server in found if server.secrets]:
            self._add(pasted, HISTORY, commit=first_commit())

    def add_copy(self, client: Client, file: Path) -> None:
        """The servers with a pasted key of a copy that a client made; one that cannot be read harms nobody."""
        try:
            found = servers.in_file(client, file)
        except (OSError, PercallError):
            return
        self._add([server for server in found if server.secrets], BACKUP)

    def _add(
        self, found: Iterable[ConfiguredServer], origin: str, *, commit: str = "", others_may_read: bool = False
    ) -> None:
        for server in found:
            keys = tuple(
                self._numbers.setdefault(key_in(one) or one.value, len(self._numbers) + 1) for one in server.secrets
            )
            self.findings.append(Finding(server, origin, commit, keys, others_may_read))


def of_machine(home: Path, folder: Path) -> Scan:
    """The users' files under `home`, and the project files of `folder` and of the folders that clients know of."""
    scan = Scan()
    projects = {folder: None}
    for client in CLIENTS:
        for file in user_files(client, home):
            scan.add_file(client, file, CONFIG)
    projects.update({Path(one.server.project): None for one in scan.findings if one.server.project})
    seen = {one.server.file for one in scan.findings}
    for client in CLIENTS:
        for project in projects:
            for file in project_files(client, project):
                if file not in seen:
                    scan.add_file(client, file, CONFIG)
    return scan


def of_folder(folder: Path, home: Path) -> Scan:
    """All clients' files in a folder, at any depth and in its git history, and the copies that are kept elsewhere.

    Raises UsageError when the folder is none.
    """
    if not folder.is_dir():
        raise UsageError("scan.folder", f"{folder} is no folder.")
    scan = Scan()
    for file in _files_below(folder):
        path = file.relative_to(folder).as_posix()
        for client in clients_of(path):
            scan.add_file(client, file, CONFIG)
        for client in clients_of(original(path)):
            scan.add_file(client, file, BACKUP)
    try:
        _add_history(scan, folder)
    except UsageError as error:  # what was found elsewhere is told all the same
        scan.unread_history = error
    seen = {one.server.file for one in scan.findings}
    for client, file in copies.of_machine(home):
        if file not in seen:
            scan.add_copy(client, file)
    return scan


def _files_below(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED)
        yield from (Path(place, name) for name in sorted(files))


def _add_history(scan: Scan, folder: Path) -> None:
    """Each version of a client's file in any branch's history. Raises UsageError."""
    with git_history.opened(folder) as history:
        if history is None:
            return
        for version, path in history.versions(lambda path: bool(_clients_that_may_have_it(path))):
            text = history.text(version)
            for client in _clients_that_may_have_it(path):
                scan.add_text(client, folder / PurePosixPath(path), text, partial(history.first_commit, version))


def _clients_that_may_have_it(path: str) -> list[Client]:
    """Whose config it is, or a copy of one."""
    return [*clients_of(path), *clients_of(original(path))]
