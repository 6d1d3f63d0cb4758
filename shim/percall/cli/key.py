"""`percall key …`: keys of your own, which the broker keeps, and uses for your grants alone."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from percall import home
from percall.adoption import records
from percall.cli import output
from percall.errors import PercallError, UsageError, word
from percall.identity import personal_keys
from percall.identity.client import SignedClient
from percall.identity.prompts import hidden

if TYPE_CHECKING:
    from collections.abc import Mapping

    from percall import wire

keys = typer.Typer(
    help="Your own keys, which the broker keeps. It uses them for your grants alone, in place of the shared ones.",
    no_args_is_help=True,
)

Server = Annotated[str, typer.Argument(metavar="SERVER", help="The server's name, as `percall run` says it.")]
Agent = Annotated[
    str | None, typer.Option("--agent", metavar="NAME", help="The agent whose login to use.  [default: the newest]")
]
SecretStdin = Annotated[bool, typer.Option("--secret-stdin", help="Read the key from standard input.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object a key.")]


@keys.command()
def add(server: Server, secret_stdin: SecretStdin = False, agent: Agent = None, as_json: Json = False) -> None:
    """Give the broker a key of yours for a server. Nobody can read it back, you included."""
    told = _give(server, "add", agent, from_stdin=secret_stdin, quiet=as_json)
    _tell(told, as_json, f"{server}: your grants use your own key from now on.")


@keys.command()
def rotate(server: Server, secret_stdin: SecretStdin = False, agent: Agent = None, as_json: Json = False) -> None:
    """Put a new key in the place of yours. Calls may run meanwhile: the next request uses it."""
    told = _give(server, "rotate", agent, from_stdin=secret_stdin, quiet=as_json)
    version = told.version if told else 0
    if told:
        records.erase_rotated(personal_keys.login_for(server, agent).broker, server, version)
    _tell(told, as_json, f"{server}: version {version} is used from now on. Revoke the old key at its issuer.")


@keys.command("list")
def list_keys(agent: Agent = None, as_json: Json = False) -> None:
    """Show your keys. At each broker that you have a login at: where they go, and which agents here use them."""
    rows: list[tuple[str, ...]] = []
    why_not: list[str] = []
    for broker, by_agent in _by_agent(agent):
        key = next((one for one in by_agent.values() if one.refusal is None), next(iter(by_agent.values())))
        refusals = {name: one.refusal for name, one in by_agent.items()}
        if as_json:
            agents = [{"agent": name, "refusal": output.error(refusal)} for name, refusal in refusals.items()]
            output.say_json({"broker": broker, **_json_of(key), "agents": agents})
        given = output.when(key.created_at)
        rows.append((key.server, broker, str(key.version), given, _state(key, refusals), key.goes_to))
        why_not += dict.fromkeys(f"{key.server}: {one}" for one in refusals.values() if one)
    if as_json:
        return
    if not rows:
        output.say("You have given no key of your own. To give one: percall key add SERVER")
        return
    output.table([("server", "broker", "version", "given", "state", "goes to"), *rows])
    for line in why_not:
        output.say(line)


def _by_agent(agent: str | None) -> list[tuple[str, dict[str, wire.PersonalKey]]]:
    """Each key with its broker, as it is for each agent here of its person's.

    An agent that its broker refuses is told, and passed over. Raises PercallError when all are.
    """
    newest = {(login.broker, login.person, login.agent): login for login in reversed(home.logins(agent))}
    if not newest:
        raise home.no_login("key.no_login", agent)
    found: dict[tuple[str, str, str], dict[str, wire.PersonalKey]] = {}
    failed: list[tuple[str, PercallError]] = []
    for broker, person, name in sorted(newest):
        try:
            with SignedClient.of(newest[broker, person, name]) as client:
                keys_of_it = personal_keys.listed(client)
        except PercallError as error:
            failed.append((name, error))
            continue
        for key in keys_of_it:
            found.setdefault((broker, person, key.server), {})[name] = key
    if failed and len(failed) == len(newest):
        raise failed[0][1]
    for name, problem in failed:
        output.say_error(f"agent {name}: {problem}")
    return [(broker, by_agent) for (broker, _, _), by_agent in found.items()]


@keys.command()
def confirm(server: Server, agent: Agent = None, as_json: Json = False) -> None:
    """Let your key go where the server's entry sends it now. And let it be used from this device and agent."""
    with _client(server, agent) as client:
        place = _seen(client, server, quiet=as_json)
        told = personal_keys.change(client, server, "confirm", place=place)
    _tell(told, as_json, f"{server}: confirmed, also for this device and agent.")


@keys.command()
def offer(server: Server, agent: Agent = None, as_json: Json = False) -> None:
    """Offer your key as the shared one. Once an administrator accepts, everybody's grants use it, and you have none."""
    told = _change(server, "offer", agent)
    person = personal_keys.login_for(server, agent).person
    _tell(
        told,
        as_json,
        f"{server}: offered. It stays yours until an administrator accepts: percall-broker server accept-key "
        f"{word(server)} --from {word(person)}. From then on administrators say where it goes. To take the offer back: "
        f"percall key withdraw {word(server)}",
    )


@keys.command()
def withdraw(server: Server, agent: Agent = None, as_json: Json = False) -> None:
    """Take an offer back that no administrator has accepted."""
    _tell(_change(server, "withdraw", agent), as_json, f"{server}: your key is offered to nobody.")


@keys.command()
def remove(server: Server, agent: Agent = None, as_json: Json = False) -> None:
    """Delete your key at the broker. Your grants use the shared one, where there is one."""
    _change(server, "remove", agent)
    if as_json:
        output.say_json({"server": server, "state": "removed"})
    else:
        output.say(f"{server}: your key is deleted at the broker. If nothing else needs it, revoke it at its issuer.")


def _client(server: str, agent: str | None) -> SignedClient:
    return SignedClient.of(personal_keys.login_for(server, agent))


def _change(server: str, verb: str, agent: str | None) -> wire.PersonalKey | None:
    with _client(server, agent) as client:
        return personal_keys.change(client, server, verb)


def _give(server: str, verb: str, agent: str | None, *, from_stdin: bool, quiet: bool) -> wire.PersonalKey | None:
    """Says where the key will go, then asks for it; the passphrase that follows signs both."""
    with _client(server, agent) as client:
        place = _seen(client, server, quiet=quiet)
        personal_keys.require_givable(client, server, verb)
        return personal_keys.change(client, server, verb, _secret(server, from_stdin=from_stdin).encode(), place)


def _seen(client: SignedClient, server: str, *, quiet: bool) -> wire.KeyPlace:
    place = personal_keys.place_at(client, server)
    if not quiet:
        output.say(f"{server}: the broker sends your key to {place.goes_to}, and nowhere else.")
    return place


def _secret(server: str, *, from_stdin: bool) -> str:
    """A key, by a hidden prompt or from standard input; never from argv, where `ps` would show it."""
    if from_stdin:
        return sys.stdin.read().strip("\r\n")
    if not sys.stdin.isatty():
        raise UsageError("key.no_terminal", "There is no terminal to ask for the key at.", "Use --secret-stdin.")
    return hidden(f"Your key for {server}: ")


def _tell(told: wire.PersonalKey | None, as_json: bool, text: str) -> None:
    if as_json:
        output.say_json(_json_of(told) if told else {})
        return
    output.say(text)
    if told and told.refusal:
        output.say(f"  {told.refusal}")


def _state(key: wire.PersonalKey, refusals: Mapping[str, wire.Refusal | None]) -> str:
    using = [name for name, refusal in refusals.items() if refusal is None]
    if not using:
        return "not used"
    used = "used" if len(using) == len(refusals) else f"used by {', '.join(using)}"
    return f"{used}, offered {output.when(key.offered_at)}" if key.offered_at else used


def _json_of(key: wire.PersonalKey) -> dict[str, object]:
    return {
        "server": key.server,
        "version": key.version,
        "created_at": key.created_at,
        "offered_at": key.offered_at,
        "goes_to": key.goes_to,
        "refusal": output.error(key.refusal),
    }
