"""One server, from its pasted key to Percall.

    1  the config as it is, sealed, and a record that this has begun
    2  the key to the broker, as this person's own; the person is there
    3  the new command is started as its client would start it, and asked: its tools, and the entry's probe
    4  the new entry in the config, in one rename, if the config is still what was read
    5  the record says adopted

Whatever stops it before step 4 leaves the config as it was, and running it again goes on; after step 2 the broker has
the key, and the error says so. After step 4 the config is the new one, and the old one is in the sealed backup.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from percall import home
from percall.adoption import config_file, entries, handshake, records
from percall.errors import PercallError, UsageError, word
from percall.identity import keyrings, personal_keys
from percall.identity.client import SignedClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Self

    from percall import wire
    from percall.adoption.config_file import ConfigFile
    from percall.adoption.handshake import Seen
    from percall.adoption.plan import Move
    from percall.adoption.records import Adoption
    from percall.home import Login
    from percall.identity import Identity

KEEP, REPLACE = "keep", "replace"


class Adopting:
    """Carries moves out, one after another. `existing` says what to do where the broker has another key already."""

    def __init__(self, tell: Callable[[str], None], *, existing: str = "", probe: bool = True) -> None:
        self._tell = tell
        self._existing = existing
        self._probe = probe
        self._clients: dict[str, tuple[SignedClient, Identity]] = {}
        self.kept: set[str] = set()
        """The servers for which the broker has kept a key that may be another than the pasted one."""

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the connections to brokers."""
        for client, _ in self._clients.values():
            client.__exit__(kind, error, trace)

    def carry_out(self, move: Move) -> Seen:
        """Adopts one server; what its new command showed. Raises PercallError, the config as it was."""
        login = move.found.login
        client, identity = self._client(login)
        file = config_file.read(move.file.path)
        _require_same(file, move)
        record = records.begin(  # 1
            client=move.server.client.name,
            file=str(move.file.path),
            steps=move.steps,
            entry=move.server.name,
            server=move.found.granted.entry.name,
            login=login,
            seed=identity.seed,
            key=move.key,
            text=file.text,
        )
        held = self._give(client, record, move)  # 2
        record = records.marked(record, key_version=held.version)
        try:
            seen = self._try_out(move)  # 3
            record = _rewrite(move, record, file.digest)  # 4
        except PercallError as error:
            error.next_step = " ".join(filter(None, (error.next_step, *self._ways_on(error, record.server))))
            raise
        records.marked(record, state="adopted")  # 5
        records.erase_unfinished(record)
        return seen

    def _client(self, login: Login) -> tuple[SignedClient, Identity]:
        """The broker, seen with one login; the passphrase is typed once for all of one broker's."""
        if login.grant not in self._clients:
            identity = keyrings.load(login)
            client = SignedClient.with_identity(login, identity)
            self._clients[login.grant] = client, identity
        client, identity = self._clients[login.grant]
        for other, _ in self._clients.values():
            if other.broker == client.broker:
                client.share_presence(other)
        return client, identity

    def _give(self, client: SignedClient, record: Adoption, move: Move) -> wire.PersonalKey:
        name = record.server
        held = next((key for key in personal_keys.listed(client) if key.server == name), None)
        is_same = held is not None and self._is_this_key(move.key, record, held.version)
        if held is not None and (self._existing == KEEP or is_same):
            if not is_same:
                self.kept.add(name)
            if held.refusal is None:
                return held
            verb, key = "confirm", b""
        elif held is None or self._existing == REPLACE:
            verb, key = "rotate" if held else "add", move.key.encode()
        else:
            raise UsageError(
                "adopt.key_exists",
                f"The broker has a key of yours for {name} already (version {held.version}), and this may be another.",
                "To go on with the broker's: --existing keep. To put this one in its place: --existing replace.",
            )
        place = personal_keys.place_at(client, name)
        self._tell(f"{name}: your key goes to {place.goes_to}, nowhere else.")
        given = personal_keys.change(client, name, verb, key, place)
        if given is None:
            raise UsageError(
                "adopt.key_gone", f"Your key for {name} was removed at the broker meanwhile.", "Try again."
            )
        return given

    def _ways_on(self, error: PercallError, server: str) -> Iterator[str]:
        """What can be done where the broker has the key and the config is as it was."""
        if error.code == "handshake.probe":
            yield "To go on without that call: --skip-probe."
        if server not in self.kept:
            yield "The broker has this key now, and your grants use it."
            yield f"To take it back: percall key remove {word(server)}"

    def _is_this_key(self, key: str, record: Adoption, version: int) -> bool:
        """Whether the broker has this very key from an earlier adoption on this device."""
        for earlier in records.all_of_them():
            if (earlier.broker, earlier.server, earlier.key_version) != (record.broker, record.server, version):
                continue
            found = self._clients.get(earlier.grant)
            if found is not None and records.is_same_key(earlier, key, found[1].seed):
                return True
            if found is None and (seed := _seed_of(earlier)) and records.is_same_key(earlier, key, seed):
                return True
        return False

    def _try_out(self, move: Move) -> Seen:
        entry = move.found.granted.entry
        environment = {**os.environ, **move.environment}
        probe = entry.probe_tool if self._probe else ""
        return handshake.try_out(move.command, environment, probe=probe, arguments=entry.probe_arguments)


def _rewrite(move: Move, record: Adoption, sealed: str) -> Adoption:
    """Writes the new entry. By the record, the file is then put back whole, unless the sealed one is not quite what it
    was before.
    """
    file = config_file.read(move.file.path)
    _require_same(file, move)
    text = entries.with_percall(file.text, move.server.client, move.steps, move.command, move.environment)
    if file.digest == sealed:  # told first: who is killed right after the rename gets the whole file back too
        record = records.marked(record, written=config_file.digest(text.encode()))
    file.replaced_by(text)
    return record


def _require_same(file: ConfigFile, move: Move) -> None:
    """Whether the entry is still what its person was shown. Raises UsageError."""
    shown, now = (entries.at(text, move.server.client, move.steps) for text in (move.file.text, file.text))
    if now != shown:
        raise UsageError(
            "config.changed",
            f"{move.server.name} in {file.path} was changed meanwhile; it was left alone.",
            "Run this again.",
        )


def _seed_of(record: Adoption) -> bytes:
    try:
        return keyrings.load(home.login(record.grant)).seed
    except PercallError:
        return b""
