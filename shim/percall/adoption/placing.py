"""A server of the catalogue put into a client's config, or taken out again. No key is involved.

Each edit begins with the file as it is at that moment, and replaces it only if it still is.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from percall.adoption import config_file, entries
from percall.clients import documents, servers
from percall.errors import UsageError, word

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from percall.clients.catalogue import Client
    from percall.clients.servers import ConfiguredServer

ADDED, CHANGED, PRESENT = "added", "changed", "present"
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Place:
    """Where in which file a server's entry stands, or would."""

    client: Client
    file: Path
    entry: str

    @property
    def steps(self) -> tuple[str, ...]:
        """What leads to it."""
        return (*self.client.member, self.entry)


@dataclass(frozen=True, slots=True)
class Put:
    """What became of a server that was put somewhere, and of an entry that was changed the lines that differ."""

    state: str
    difference: tuple[str, ...] = ()


def there(place: Place, server: str) -> ConfiguredServer | None:
    """What a place has of a server of Percall's already. Raises UsageError when the file cannot be read."""
    if not place.file.exists():
        return None
    with servers.naming(place.file):
        found = _there(place, config_file.read(place.file).text)
    return found if found is not None and found.percall == server else None


def put(place: Place, server: str, command: Sequence[str], environment: dict[str, str], *, dry_run: bool) -> Put:
    """Puts a server there: added, changed (it was Percall's already, with another command) or present.

    Of an entry that is changed, whatever else a person has put there stays. Raises UsageError: the place is another
    server's, or the file cannot be edited.
    """
    if not place.file.exists():
        if not dry_run:
            _create(place.file, _with_entry("", place, command, environment))
        return Put(ADDED)
    done = Put(PRESENT)

    def edited(text: str) -> str:
        nonlocal done
        data = documents.read(text, place.client.form)
        _require_objects(data, place)
        before = entries.at(text, place.client, place.steps)
        found = _there(place, text)
        if before is None:
            done = Put(ADDED)
            return _with_entry(text, place, command, environment)
        if found is None or found.percall != server:
            raise _taken(place, found)
        mended = entries.mended(text, place.client, place.steps, command, environment)
        masks = {secret.value: "(key)" for secret in found.secrets}
        difference = entries.difference(before, entries.at(mended, place.client, place.steps), masks)
        done = Put(PRESENT) if mended == text else Put(CHANGED, tuple(difference))
        return mended

    _edit(place.file, edited, dry_run=dry_run)
    return done


def _there(place: Place, text: str) -> ConfiguredServer | None:
    found = servers.in_text(place.client, place.file, text)
    return next((one for one in found if one.path == place.steps), None)


def take_out(client: Client, file: Path, chosen: Callable[[ConfiguredServer], bool], *, dry_run: bool) -> list[str]:
    """Takes the chosen servers of Percall's out of a file; their entries' names. Raises UsageError."""
    gone: list[str] = []

    def edited(text: str) -> str:
        gone.clear()
        for one in servers.in_text(client, file, text):
            if one.percall and chosen(one):
                text = documents.removed(text, client.form, one.path)
                gone.append(one.name)
        return text

    _edit(file, edited, dry_run=dry_run)
    return gone


def _edit(path: Path, edited: Callable[[str], str], *, dry_run: bool) -> None:
    """Makes an edit; again, where the client wrote meanwhile. Raises UsageError."""
    for attempt in range(_ATTEMPTS):
        file = config_file.read(path)
        with servers.naming(path):
            text = edited(file.text)
        if text == file.text:
            return
        config_file.require_editable(file)
        if dry_run:
            return
        try:
            file.replaced_by(text)
        except UsageError as error:
            if error.code != "config.changed" or attempt == _ATTEMPTS - 1:
                raise
        else:
            return


def _with_entry(text: str, place: Place, command: Sequence[str], environment: dict[str, str]) -> str:
    entry = dict(place.client.shape.extra) | entries.launching(place.client, command, environment)
    return documents.inserted(text, place.client.form, place.steps, entry)


def _require_objects(data: Any, place: Place) -> None:
    for step in place.client.member:
        if not isinstance(data, dict):
            break
        data = data.get(step, {})
    if not isinstance(data, dict):
        raise UsageError(
            "config.shape",
            f"In {place.file}, {'.'.join(place.client.member)} holds no servers by name.",
            "Mend it, then run this again.",
        )


def _taken(place: Place, there: ConfiguredServer | None = None) -> UsageError:
    adopt = f"percall adopt {place.client.name} {word(place.entry)}, or give" if there and there.secrets else "Give"
    return UsageError(
        "add.taken",
        f"{place.file} has another server {place.entry!r} already.",
        f"{adopt} this one another name: --as NAME",
    )


def _create(path: Path, text: str) -> None:
    """A new file, whole or not at all, and never in the place of another. Raises UsageError."""
    if path.is_symlink():
        raise UsageError("config.read", f"{path} is a link to a file that is not there.", "Make that file, or drop it.")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = config_file.aside(path)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)
        finally:
            Path(temporary).unlink()
    except FileExistsError:
        raise UsageError("config.changed", f"{path} was made by its client meanwhile.", "Run this again.") from None
    except OSError as error:
        raise UsageError(
            "config.write", f"{path} cannot be written: {error.strerror}.", "Mend its folder, or free some space."
        ) from None
