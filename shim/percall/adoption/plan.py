"""What `percall adopt` would do with each server that holds a pasted key, and why it leaves the others alone.

Reads the scan and what the broker last granted; asks nobody, changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from percall import home
from percall.adoption import config_file, entries
from percall.clients import launches, own_command
from percall.clients.pasted import key_in
from percall.clients.scan import CONFIG, PASTED
from percall.errors import PercallError, UsageError, word

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from percall.adoption.config_file import ConfigFile
    from percall.clients.scan import Finding, Scan
    from percall.clients.servers import ConfiguredServer
    from percall.home import Found


@dataclass(frozen=True, slots=True)
class Move:
    """A server that can be adopted. `also` names other clients that read the same file; `lines` is the difference."""

    server: ConfiguredServer
    file: ConfigFile
    found: Found
    command: tuple[str, ...]
    environment: dict[str, str]
    key: str = field(repr=False)  # SECRET, never log
    number: int
    lines: tuple[str, ...]
    also: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[str, ...]:
        """Where the entry stands in the file."""
        return tuple(map(str, self.server.path))


@dataclass(frozen=True, slots=True)
class Left:
    """A server that is left as it is, and why."""

    server: ConfiguredServer
    error: PercallError


def plan(
    scan: Scan,
    *,
    clients: Collection[str],
    names: Collection[str],
    agent: str | None = None,
    server: str | None = None,
) -> list[Move | Left]:
    """The servers with a pasted key, of these clients and with these names (of all, where none is named).

    `agent` takes the place of each client's own; `server` that of the entry which would be recognised.
    """
    chosen = [
        finding
        for finding in scan.findings
        if finding.origin == CONFIG
        and finding.state == PASTED
        and (not clients or finding.server.client.name in clients)
        and (not names or finding.server.name in names)
    ]
    planned: list[Move | Left] = []
    places: dict[tuple[Path, tuple[object, ...]], int] = {}
    for finding in chosen:
        place = (_real(finding.server.file), finding.server.path)
        if place in places:  # two clients share the file: the first one's agent serves both
            earlier = planned[places[place]]
            if isinstance(earlier, Move):
                planned[places[place]] = _shared(earlier, finding.server.client.title)
            continue
        places[place] = len(planned)
        try:
            planned.append(_move(finding, agent, server))
        except PercallError as error:
            planned.append(Left(finding.server, error))
    return planned


def _move(finding: Finding, agent: str | None, server: str | None) -> Move:
    configured = finding.server
    client = configured.client
    if not client.rewritten:
        raise UsageError(
            "adopt.client",
            f"Percall reads {client.title}'s config, and does not write it.",
            f"Put `percall run {word(configured.name)}` in the place of its command by hand, and its key with: "
            f"percall key add {word(configured.name)}",
        )
    found = _granted(configured, agent or client.name, server)
    key = _key(configured, found)
    if not home.accepts(found.login.broker, found.granted.entry):
        name = found.granted.entry.name
        raise UsageError(
            "trust.changed",
            f"The command that the broker gives for {name} is not accepted on this device.",
            f"See it and accept it: percall trust {word(name)}",
        )
    file = config_file.read(configured.file)
    config_file.require_editable(file)
    shared = configured.is_shared
    command, environment = own_command.run(found, shared=shared), own_command.environment(shared=shared)
    path = tuple(map(str, configured.path))
    before = entries.at(file.text, client, path)
    after = entries.at(entries.with_percall(file.text, client, path, command, environment), client, path)
    masks = {secret.value: f"(key {number})" for secret, number in zip(configured.secrets, finding.keys, strict=True)}
    return Move(
        server=configured,
        file=file,
        found=found,
        command=command,
        environment=environment,
        key=key,
        number=finding.keys[0],
        lines=tuple(entries.difference(before, after, masks)),
    )


def _shared(move: Move, title: str) -> Move:
    return replace(move, also=(*move.also, title))


def _granted(configured: ConfiguredServer, agent: str, name: str | None) -> Found:
    """What this agent is granted of the server that a config means. Raises UsageError."""
    if not home.logins():
        raise home.no_login("adopt.no_login", None)
    granted = home.all_granted()
    meant = {one.granted.entry.name for one in granted if _is_meant(configured, one, name)}
    if not meant:
        launch = launches.launched(configured.command, configured.url) or "no program that Percall knows"
        raise UsageError(
            "adopt.unknown",
            f"None of your grants is for what it launches ({launch}).",
            "Ask your administrator for the server and a grant (percall-broker recipe list). If a server of yours is "
            "meant: percall adopt … --server NAME",
        )
    if configured.name in meant:
        meant = {configured.name}
    if len(meant) > 1:
        raise UsageError(
            "adopt.ambiguous",
            f"It could be any of your servers {', '.join(sorted(meant))}.",
            "Say which: percall adopt … --server NAME",
        )
    (entry,) = meant
    try:
        return home.find_server(entry, agent)
    except UsageError:
        other = next(one for one in granted if one.granted.entry.name == entry)
        tools = ",".join(other.granted.tools)
        raise UsageError(
            "adopt.grant",
            f"The agent {agent} has no grant for {entry}.",
            f"Ask your administrator: percall-broker grant create {word(other.login.person)} --server {word(entry)} "
            f"--agent {word(agent)}{f' --tools {word(tools)}' if tools else ''}; or use the agent that has one: "
            f"percall adopt … --agent {word(other.login.agent)}",
        ) from None


def _is_meant(configured: ConfiguredServer, found: Found, name: str | None) -> bool:
    entry = found.granted.entry
    if name is not None:
        return entry.name == name
    if launches.fits(launches.launched(configured.command, configured.url), entry.launches):
        return True
    return not entry.launches and entry.name == configured.name


def _key(configured: ConfiguredServer, found: Found) -> str:
    """The one key that was pasted, where this server's entry expects it. SECRET. Raises UsageError."""
    entry = found.granted.entry
    odd = [secret for secret in configured.secrets if not _is_expected(secret.kind, secret.name, entry.keys)]
    if odd:
        places = ", ".join(secret.name or secret.kind for secret in odd)
        raise UsageError(
            "adopt.place",
            f"A secret stands where the server {entry.name} takes no key: {places}.",
            f"Move it by hand: percall key add {word(entry.name)}, then "
            f"percall add {word(entry.name)} --client {configured.client.name}",
        )
    found_keys = {key_in(secret) for secret in configured.secrets}
    if len(found_keys) != 1 or "" in found_keys:
        raise UsageError(
            "adopt.keys",
            f"Which key is meant cannot be told: {len(configured.secrets)} secrets are pasted there.",
            f"Give the right one by hand: percall key add {word(entry.name)}",
        )
    if entry.delivery == "none":
        raise UsageError(
            "adopt.no_key",
            f"The server {entry.name} takes no key at Percall, and one is pasted in this config.",
            "Ask your administrator what it is for.",
        )
    return found_keys.pop()


def _is_expected(kind: str, name: str, known: Iterable[str]) -> bool:
    if kind in {"header", "url"}:
        return True
    if kind == "setting":  # whose place is its client's extension's to know
        return False
    names = set(known)
    return not names or name in names or (kind == "args" and not name)


def _real(path: Path) -> Path:
    try:
        return path.resolve(strict=True)
    except OSError:
        return path
