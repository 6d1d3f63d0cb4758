"""What a grant may use, told to its shim: the laptop's half of each server's entry, without anything secret."""

from __future__ import annotations

from typing import TYPE_CHECKING

from percall import wire
from percall_broker.model.entry_file import label
from percall_broker.model.errors import refusal
from percall_broker.model.keys import barred_key, key_of
from percall_broker.model.standing import barred, closed, ends_at, state_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from percall_broker.model.records import Decision, Grant, Server


def laptop_half(server: Server) -> wire.ServerEntry:
    """The laptop's half of a server's entry."""
    entry = server.entry
    return wire.ServerEntry(
        name=server.name,
        version=server.version,
        delivery=entry.delivery,
        label=label(entry),
        command=entry.command,
        environment=entry.environment,
        pass_environment=entry.pass_environment,
        placeholder=entry.placeholder,
        ways=entry.ways,
        hosts=entry.hosts,
        unlisted_hosts=entry.unlisted_hosts,
        attribution=entry.attribution,
        startup=bool(entry.startup),
        sampling=entry.sampling,
        probe_tool=entry.probe.tool if entry.probe else "",
        probe_arguments=entry.probe.arguments if entry.probe else "",
        launches=entry.recognition.launches,
        keys=entry.key_names,
        deadline_seconds=entry.deadline_seconds,
    )


def session_of(
    grant: Grant,
    servers: Iterable[Server],
    now: float,
    stretch: wire.Stretch | None = None,
    automations: tuple[wire.Automation, ...] = (),
) -> wire.Session:
    """The session of a grant, with those of its servers that are there."""
    return wire.Session(
        grant=grant.id,
        person=grant.person,
        agent=grant.agent,
        device=grant.device_name,
        state=state_of(grant, now),
        expires_at=ends_at(grant),
        administrator=grant.administrator,
        version=grant.version,
        servers=tuple(
            wire.GrantedServer(
                laptop_half(server),
                scope.tools,
                scope.prompts,
                scope.resources,
                _told(closed(server.name, server)),
                _whose_key(grant, server),
                _told(barred_key(grant, server)),
            )
            for server in servers
            if server.state != "removed" and (scope := grant.servers.get(server.name)) is not None
        ),
        device_id=grant.device_id,
        refusal=_told(barred(grant, now)),
        stretch=stretch,
        automation=grant.automation,
        automations=automations,
    )


def _whose_key(grant: Grant, server: Server) -> str:
    key = key_of(grant, server)
    if not key.version:
        return ""
    return "own" if key.owner else "shared"


def _told(refused: Decision | None) -> wire.Refusal | None:
    return None if refused is None else refusal(refused)
