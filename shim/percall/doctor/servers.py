"""The servers that clients run through Percall: each started by its own command, and asked for its tools.

A project's file may be anybody's who wrote the repository, and no client runs what it says unasked: such a server is
started by this machine's own `percall run`, and nothing of the file is run.
"""

from __future__ import annotations

import os
import shlex
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from percall import home
from percall.adoption import handshake
from percall.clients import own_command
from percall.clients import scan as scanning
from percall.clients.scan import CONFIG, PASTED
from percall.doctor.finding import ok, problem, warning
from percall.errors import PercallError, UsageError, word

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from percall.clients.scan import Scan
    from percall.clients.servers import ConfiguredServer
    from percall.doctor.finding import Finding

_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class _Start:
    """A server to start. `server` is its name at Percall, `agent` whose grant it uses."""

    about: str
    server: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    mended_by: str = ""


def configured() -> Scan:
    """What the clients' configs hold, of this person and of the project here."""
    return scanning.of_machine(Path.home(), Path.cwd())


def meant(scan: Scan, names: Collection[str]) -> frozenset[str]:
    """The servers, by their names at Percall, that are meant by names which may be those that clients have for them."""
    found = {one.server.percall for one in scan.findings if one.server.name in names and one.server.percall}
    return frozenset({*names, *found})


def findings(
    scan: Scan,
    names: Collection[str],
    clients: Collection[str],
    agent: str | None = None,
    *,
    start: bool,
    probe: bool,
) -> Iterator[Finding]:
    """What the clients' configs hold, and how the servers do that Percall runs there; all where none is named, of one
    agent where that is.

    A server that is named and granted, and that no client has, is started too. `start` off: nothing is started.
    `probe`: the entry's read-only tool is called as well.
    """
    yield from _configs(scan, names, clients, agent)
    chosen = [
        one.server
        for one in scan.findings
        if one.origin == CONFIG
        and one.server.percall
        and not one.server.disabled
        and (not clients or one.server.client.name in clients)
        and (not names or {one.server.name, one.server.percall} & set(names))
        and _is_of(one.server, agent)
    ]
    starts: list[_Start] = []
    for server in chosen:
        if server.is_shared:
            yield from _of_a_project(server, starts)
        else:
            starts.append(_configured(server))
    for name in names:
        if not any(name in {server.name, server.percall} for server in chosen):
            yield from _granted(name, agent, starts)
    if not chosen and not names:
        where = f"no client's config has a server of Percall's{_for(agent)}"
        yield ok("server", "", f"Nothing to start: {where}. See `percall catalog` and `percall add`.")
    if start:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            yield from pool.map(lambda one: _started(one, probe=probe), starts)


def _is_of(server: ConfiguredServer, agent: str | None) -> bool:
    """Whether a server of Percall's runs as this agent; True where none is named."""
    return agent is None or (server.agent or home.DEFAULT_AGENT) == agent


def _for(agent: str | None) -> str:
    return f" for the agent {agent}" if agent else ""


def _configs(scan: Scan, names: Collection[str], clients: Collection[str], agent: str | None) -> Iterator[Finding]:
    for one in scan.unreadable:
        if not clients or one.client.name in clients:
            yield problem("config", one.client.title, one.error)
    for found in scan.findings:
        server = found.server
        if names or (clients and server.client.name not in clients):
            continue
        about = f"{server.client.title} {server.name}"
        if found.state == PASTED and found.origin == CONFIG:
            adopt = f"percall adopt {server.client.name} {word(server.name)}"
            yield warning(
                "config",
                about,
                f"A key is pasted in {server.file}.",
                adopt if server.client.rewritten else "See `percall scan`.",
                code="config.pasted_key",
            )
        elif server.percall and _is_of(server, agent) and _lacks_home(server):
            yield warning(
                "config",
                about,
                f"{home.VARIABLE} is set here, and {server.file} does not tell the server.",
                f"Write it anew: {_anew(server)}",
                code="config.home",
            )


def _anew(server: ConfiguredServer) -> str:
    return f"percall add {word(server.percall)} --client {server.client.name} --as {word(server.name)}"


def _lacks_home(server: ConfiguredServer) -> bool:
    needed = own_command.environment(shared=server.is_shared)
    return any(server.environment.get(name) != value for name, value in needed.items())


def _of_a_project(server: ConfiguredServer, starts: list[_Start]) -> Iterator[Finding]:
    """A server that a project's file names, to be started by the command that is installed here."""
    about = f"{server.client.title} {server.name} ({server.file.name} of this project)"
    try:
        found = home.find_server(server.percall, server.agent)
        starts.append(_Start(about, server.percall, own_command.run(found, shared=False)))
    except PercallError as error:
        yield problem("server", about, error)


def _configured(server: ConfiguredServer) -> _Start:
    again = _anew(server)
    return _Start(
        about=f"{server.client.title} {server.name}",
        server=server.percall,
        command=server.command,
        environment=server.environment,
        mended_by=f"If its command has moved, write it anew: {again}",
    )


def _granted(name: str, agent: str | None, starts: list[_Start]) -> Iterator[Finding]:
    """A server that is named and configured nowhere: started as `percall run` would, for each agent that may use it."""
    granted = {found.login.agent for found in home.all_granted() if found.granted.entry.name == name}
    agents = sorted(granted if agent is None else granted & {agent})
    for one in agents:
        try:
            found = home.find_server(name, one)
            starts.append(_Start(f"agent {one} {name}", name, own_command.run(found, shared=False)))
        except PercallError as error:
            yield problem("server", f"agent {one} {name}", error)
    if not agents:
        unknown = UsageError(
            "doctor.unknown",
            f"No client and no grant of yours has a server {name!r} of Percall's{_for(agent)}.",
            "`percall catalog` shows what you may use.",
        )
        yield problem("server", name, unknown)


def _started(one: _Start, *, probe: bool) -> Finding:
    entry = next((found.granted.entry for found in home.all_granted() if found.granted.entry.name == one.server), None)
    tool, arguments = (entry.probe_tool, entry.probe_arguments) if entry and probe else ("", "")
    environment = {**os.environ, **one.environment}
    try:
        seen = handshake.try_out(one.command, environment, probe=tool, arguments=arguments)
    except PercallError as error:
        next_step = error.next_step or (one.mended_by if error.code == "handshake.start" else "")
        error.next_step = next_step or f"See what it says: {shlex.join(one.command)}"
        return problem("server", one.about, error)
    if not seen.tools:
        return warning(
            "server",
            one.about,
            "It starts, and shows no tool: the grant allows none, or it has none.",
            "`percall status` shows the patterns of your grant.",
            code="server.no_tools",
        )
    tools = f"{len(seen.tools)} tool{'' if len(seen.tools) == 1 else 's'}"
    probed = f", and {tool} answered" if seen.probed else ""
    if probe and not tool:
        probed = "; its entry names no probe, so its key was not tried"
    return ok("server", one.about, f"It starts, and shows {tools}{probed}.")
