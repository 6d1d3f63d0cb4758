"""`percall login`: spends an invite, keeps key and grant in a keyring, and prints what happened."""

from __future__ import annotations

import contextlib
import platform
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from percall import wire
from percall.cli import output
from percall.cli.trust import launch_lines
from percall.errors import PercallError, UsageError, word
from percall.home import DEFAULT_AGENT
from percall.identity import claims, enrolment, keyrings, sign_in

if TYPE_CHECKING:
    from collections.abc import Iterable


_STANDARD_INPUT = "-"


def login(
    url: Annotated[str, typer.Argument(metavar="URL", help="The broker's public URL.")],
    *,
    invite: Annotated[
        str,
        typer.Option(
            "--invite",
            metavar="CODE",
            help="The administrator's one-time invite, or - to read it from standard input, where other users of this "
            "machine do not see it; without one, this device picks up what waits for you.",
        ),
    ] = "",
    agent: Annotated[
        str | None,
        typer.Option(
            "--agent",
            metavar="NAME",
            help="The client application that this grant is for: a name, declared and not proven.  "
            "[default: the one that the invite names, or `default`]",
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", metavar="NAME", help="This machine's name.  [default: its host name]")
    ] = None,
    keyring: Annotated[
        str,
        typer.Option(
            "--keyring",
            metavar="os|file",
            help="Where to keep the key: the system's keyring, or a file encrypted under a passphrase of its own.",
        ),
    ] = "os",
    ca_file: Annotated[
        str, typer.Option("--ca-file", metavar="FILE", help="Trust only these certificates for the broker.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a grant.")] = False,
) -> None:
    """Enrol this device with an invite, or by signing in. Signing in opens your browser, where the broker's
    organisation has that.

    The device key is made here and its private half never leaves. Run it again without an invite to sign in again, and
    to pick up grants that wait for you, also for further agents on this device.
    """
    agent = None if agent is None else _agent_name(agent)
    if ca_file and not Path(ca_file).exists():
        raise UsageError("login.ca_file", f"There is no file {ca_file}.", "Give a PEM file to --ca-file.")
    broker = enrolment.broker_url(url)
    came: list[enrolment.Enrolment] = []
    if invite == _STANDARD_INPUT:
        invite = _read_invite()
    if not invite:
        signed = sign_in.sign_in(broker, ca_file, enrol=not enrolment.has_login(broker))
        invite = (signed.invite or "") if signed else ""
        if signed and not as_json:
            output.say(f"Signed in as {signed.person}. Sign in again before {output.when(signed.until)}.")
    if invite:
        first = enrolment.enrol(
            url=broker,
            invite=invite.strip(),
            agent=agent,
            device=_device_name(device or platform.node() or "unnamed"),
            ca_file=ca_file,
            keyring=keyrings.keyring(keyring),
        )
        came.append(first)
        if not first.session.administrator:
            # The login stands; `status` picks up what waits, and says what is wrong.
            with contextlib.suppress(PercallError):
                came += claims.pick_up(broker, first.session.agent)
    else:
        came += claims.pick_up(broker, agent or DEFAULT_AGENT)
    if not came and not as_json:
        output.say("Nothing waits for you there. A further server needs a grant: ask your administrator.")
    for done in map(enrolment.accepted, came):
        if as_json:
            output.say_json(as_json_of(done))
        else:
            _tell(done)


def _read_invite() -> str:
    """The first line: whoever types it there ends it with Enter."""
    invite = sys.stdin.readline().strip()
    if not invite:
        raise UsageError(
            "usage.invite", "Standard input has no invite.", "Write it there: percall login URL --invite -"
        )
    return invite


def _device_name(text: str) -> str:
    if not wire.is_device_name(text):
        most = wire.MAX_DEVICE_CHARACTERS
        raise UsageError("usage.name", f"--device: a name has 1 to {most} printable characters.")
    return text


def _agent_name(text: str) -> str:
    if not wire.is_name(text):
        most = wire.MAX_NAME_CHARACTERS
        raise UsageError(
            "usage.name",
            f"--agent: {text!r} is no agent's name.",
            f"It has up to {most} letters, digits and . _ @ + -",
        )
    return text


def tell_what_waited(came: Iterable[enrolment.Enrolment]) -> None:
    """What was picked up, for a person; which accepts the launches that are seen for the first time."""
    for done in came:
        output.say(f"New: a grant that waited for you ({done.session.grant}).")
        _tell(enrolment.accepted(done))


def _tell(done: enrolment.Enrolment) -> None:
    login, session = done.login, done.session
    output.say(f"You are {session.person} on {session.device}, agent {session.agent}, at {login.broker}.")
    role = "automation's grant" if session.automation else "administrator's grant"
    role = role if session.administrator else "grant"
    output.say(f"  {role} {session.grant}, {output.expiry(session.expires_at)}")
    made = "kept from an earlier login" if done.reused_key else "made on this device"
    place = keyrings.named(login) if login.keyring == "os" else "a file encrypted under a passphrase of its own"
    output.say(f"  device key {made}; key and grant are in the keyring ({login.keyring}: {place})")
    for granted in session.servers:
        _tell_server(done, granted)


def _tell_server(done: enrolment.Enrolment, granted: wire.GrantedServer) -> None:
    entry = granted.entry
    output.say(f"  server {entry.name}: {entry.label}; tools {', '.join(granted.tools) or 'none'}")
    if entry.name in done.changed:
        output.say(f"    its command differs from the one you accepted: see `percall trust {word(entry.name)}`")
        return
    if entry.name in done.trusted:
        command, *more = launch_lines(entry)
        if entry.command or more:
            output.say(f"    accepted on first sight: {shlex.join(entry.command) or command.split(maxsplit=1)[1]}")
        for line in more:
            output.say(f"      {line}")
    agent = done.session.agent
    flag = "" if agent == DEFAULT_AGENT else f"--agent {word(agent)} "
    output.say(f"    in the client's config: percall run {flag}{word(entry.name)}")


def as_json_of(done: enrolment.Enrolment) -> dict[str, object]:
    """What came of a login, for a script."""
    login, session = done.login, done.session
    return {
        "broker": login.broker,
        "grant": session.grant,
        "person": session.person,
        "device": session.device,
        "agent": session.agent,
        "administrator": session.administrator,
        "expires_at": session.expires_at,
        "keyring": login.keyring,
        "reused_key": done.reused_key,
        "servers": [granted.entry.name for granted in session.servers],
        "trusted": list(done.trusted),
        "accepted": {
            granted.entry.name: launch_lines(granted.entry)
            for granted in session.servers
            if granted.entry.name in done.trusted
        },
        "changed": list(done.changed),
    }
