"""A config as it was before Percall: whole where nobody has changed it since, else this one entry.

The key is then in a plain file again. It is also at the broker still, until its person removes it there.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from percall import home
from percall.adoption import config_file, entries, records
from percall.clients import catalogue, servers
from percall.errors import UsageError
from percall.identity import keyrings, personal_keys
from percall.identity.client import SignedClient

if TYPE_CHECKING:
    from collections.abc import Collection

    from percall.adoption.records import Adoption


def undoable(clients: Collection[str], names: Collection[str]) -> list[Adoption]:
    """What can be undone, the newest first: one record for each entry. Raises UsageError."""
    newest: dict[tuple[str, tuple[str, ...]], Adoption] = {}
    for record in records.all_of_them():
        wanted = (not clients or record.client in clients) and (not names or record.entry in names)
        if wanted and record.state in {"begun", "adopted"} and _is_percalls(record):
            newest[record.file, record.steps] = record
    return list(reversed(newest.values()))


def is_rotated(record: Adoption) -> bool:
    """Whether the broker has a newer key than the one in the backup, or none. Raises PercallError."""
    with SignedClient.of(home.login(record.grant)) as client:
        held = {key.server: key.version for key in personal_keys.listed(client)}
    return held.get(record.server, 0) != record.key_version


def undo(record: Adoption) -> None:
    """Puts the old entry back. Raises PercallError, the config as it is."""
    seed = keyrings.load(home.login(record.grant)).seed
    before = records.text_before(record, seed)
    file = config_file.read(Path(record.file))
    config_file.require_editable(file)
    if file.digest == record.written:
        text = before
    else:
        client = catalogue.client(record.client)
        if client is None:
            raise UsageError("undo.client", f"Percall does not know the client {record.client!r} any more.")
        text = entries.with_entry(file.text, client, record.steps, entries.at(before, client, record.steps))
    file.replaced_by(text)
    records.marked(record, state="undone")
    records.erase(record)


def _is_percalls(record: Adoption) -> bool:
    """Whether the entry is (still) Percall's in its file."""
    client = catalogue.client(record.client)
    if client is None:
        return False
    try:
        found = servers.in_file(client, Path(record.file))
    except UsageError:
        return False
    return any(tuple(map(str, one.path)) == record.steps and one.percall for one in found)
