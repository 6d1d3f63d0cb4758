"""Copies of the clients' configs that nobody thinks of: their own backups, those beside a file, an editor's history.

A key that was pasted once stays there after the config has been mended.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from percall.clients.catalogue import CLIENTS, Client, backup_files, clients_of, history_folders

if TYPE_CHECKING:
    from collections.abc import Iterator

_INDEX = "entries.json"
_MOST_INDEX_BYTES = 1024 * 1024


def of_machine(home: Path) -> Iterator[tuple[Client, Path]]:
    """Each copy that is there, and the client whose config it was."""
    for client in CLIENTS:
        for file in backup_files(client, home):
            yield client, file
    for folder in history_folders(home):
        yield from _in_history(folder)


def _in_history(folder: Path) -> Iterator[tuple[Client, Path]]:
    """The earlier versions of one file, where that is a client's config."""
    try:
        index = folder / _INDEX
        if not index.is_file() or index.stat().st_size > _MOST_INDEX_BYTES:
            return
        known = json.loads(index.read_text("utf-8"))
        clients = clients_of(unquote(urlsplit(known["resource"]).path))
        names = [str(entry["id"]) for entry in known["entries"]] if clients else []
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return  # not a history that we know
    for name in names:
        file = folder / Path(name).name
        if file.is_file():
            yield from ((client, file) for client in clients)
