"""`percall status`: who am I, which grants, which broker, is it reachable, where is the key. Refreshes the caches."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Annotated

import typer

from percall import home
from percall.adoption import records
from percall.cli import output
from percall.cli.login import tell_what_waited
from percall.errors import BrokerRefusal, IdentityError, PercallError, UsageError, word
from percall.identity import keyrings, passphrase, standings, unlocking

if TYPE_CHECKING:
    from percall import wire
    from percall.home import Login
    from percall.identity.standings import Granted, Standing


def status(
    agent: Annotated[str | None, typer.Option("--agent", metavar="NAME", help="Only this agent's logins.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a login.")] = False,
) -> None:
    """Show who you are and what you may use. Asks the broker, and says what is wrong where it does not answer.

    Ends with the code of the first problem, 0 when there is none. What another grant of the agent makes good is none.
    """
    with contextlib.suppress(UsageError):  # `percall undo` tells what is wrong with one
        records.erase_old(time.time())
    came = standings.picked_up(agent)
    if not as_json:
        tell_what_waited(came)
    all_of_them = standings.of_all(agent)
    granted = standings.granted(all_of_them)
    said: set[str] = set()
    for standing in all_of_them:
        if as_json:
            output.say_json(_as_json(standing))
        else:
            _tell(standing, said, granted)
    raise typer.Exit(next(filter(None, (_exit_code(standing, granted) for standing in all_of_them)), 0))


def _exit_code(standing: Standing, granted: list[Granted]) -> int:
    if standing.error is not None:
        return standing.error.exit_code
    missed = standing.session is not None and standings.is_missed(standing.login, standing.session, granted)
    return BrokerRefusal.exit_code if missed else 0


def _tell(standing: Standing, said: set[str], granted: list[Granted]) -> None:
    """One login. `said` are the keyring's errors that were told with another: it is one for all of them."""
    login, session, error = standing.login, standing.session, standing.error
    locked = error if isinstance(error, IdentityError) else None
    reached = "reachable" if error is None else "not asked: its key is not at hand" if locked else error.message
    output.say(f"{login.person} on {login.device}, agent {login.agent}")
    output.say(f"  broker   {login.broker}: {reached}")
    if error is not None and error.next_step and not locked:
        output.say(f"           {error.next_step}")
    output.say(f"  keyring  {login.keyring}{f' ({keyrings.named(login)})' if login.backend else ''}{_how_open(login)}")
    if locked is not None and str(locked) not in said:
        said.add(str(locked))
        output.say(f"           {locked}")
    if session is None:
        return
    old = "" if error is None else " (as last seen)"
    output.say(f"  grant    {session.grant}: {_role(session)}{session.state}{old}, {output.expiry(session.expires_at)}")
    if session.refusal is not None:
        is_replaced = standings.is_replaced(login, session, granted)
        more = "Another one goes on." if is_replaced else standings.next_step(login, session, granted)
        output.say(f"           {session.refusal.message} {more}".rstrip())
    if not session.automation:
        known = "set" if session.stretch else "not set: nothing can be changed in your name"
        output.say(f"  presence passphrase {known}")
    for automation in session.automations:
        output.say(f"  automation {automation.name}: may change {', '.join(automation.may) or 'nothing'}")
    for server in session.servers:
        entry = server.entry
        output.say(f"  server   {entry.name}: {entry.label}; tools {', '.join(server.tools) or 'none'}")
        _tell_refusal(server.refusal or server.key_refusal)
        if server.key == "own":
            output.say("           with your own key")
        if not home.accepts(login.broker, entry):
            output.say(f"           its command is not accepted on this device: see `percall trust {word(entry.name)}`")


def _how_open(login: Login) -> str:
    """How the keyring file opens for programs without a terminal."""
    if login.keyring != "file":
        return ""
    until = _unlocked_until(login)
    if until:
        return f": unlocked until {output.when(until)}"
    named = passphrase.file(login.passphrase_file)
    return f": opens with {named}" if named else ": locked; to unlock it: percall unlock"


def _unlocked_until(login: Login) -> int:
    if login.keyring != "file":
        return 0
    try:
        return unlocking.unlocked_until(login.grant)
    except PercallError:
        return 0  # `reachable` says what is wrong


def _tell_refusal(refusal: wire.Refusal | None) -> None:
    if refusal is not None:
        output.say(f"           {refusal}")


def _role(session: wire.Session) -> str:
    if session.automation:
        return "automation, "
    return "administrator, " if session.administrator else ""


def _as_json(standing: Standing) -> dict[str, object]:
    login, session, error = standing.login, standing.session, standing.error
    return {
        "broker": login.broker,
        "reachable": error is None,
        "error": output.error(error),
        "person": login.person,
        "device": login.device,
        "agent": login.agent,
        "grant": login.grant,
        "keyring": login.keyring,
        "backend": login.backend,
        "unlocked_until": _unlocked_until(login),
        "state": session.state if session else "",
        "expires_at": session.expires_at if session else 0,
        "refusal": output.error(session.refusal if session else None),
        "administrator": bool(session and session.administrator),
        "presence": bool(session and session.stretch),
        "automation": bool(session and session.automation),
        "automations": [{"name": one.name, "may": list(one.may)} for one in (session.automations if session else ())],
        "servers": [
            {
                "name": granted.entry.name,
                "label": granted.entry.label,
                "delivery": granted.entry.delivery,
                "tools": list(granted.tools),
                "key": granted.key,
                "trusted": home.accepts(login.broker, granted.entry),
                "refusal": output.error(granted.refusal or granted.key_refusal),
            }
            for granted in (session.servers if session else ())
        ],
    }
