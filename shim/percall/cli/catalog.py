"""`percall catalog`: the servers that you may use, where each one's key is, and which clients have it already."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from percall import home
from percall.cli import output
from percall.cli.login import tell_what_waited
from percall.clients import scan as scanning
from percall.clients.scan import CONFIG
from percall.errors import word
from percall.identity import standings

if TYPE_CHECKING:
    from percall import wire
    from percall.clients.servers import ConfiguredServer
    from percall.identity.standings import Standing

_KEYS = {"own": "your own", "shared": "shared"}


@dataclass(slots=True)
class _Offer:
    """One server of one broker, and the grants that cover it, those that can be used before the others."""

    broker: str
    entry: wire.ServerEntry
    grants: list[tuple[wire.Session, wire.GrantedServer]] = field(default_factory=list)
    configured: list[ConfiguredServer] = field(default_factory=list)

    @property
    def refusal(self) -> wire.Refusal | None:
        """Why nothing can be done with it now; None where one grant can be used."""
        reasons = [_refusal(session, granted) for session, granted in self.grants]
        return None if None in reasons else reasons[0]

    @property
    def key(self) -> str:
        """Whose key its calls carry: own, shared, or empty."""
        return next((granted.key for _, granted in self.grants if granted.key), "")

    @property
    def agents(self) -> list[str]:
        """The agents that may use it."""
        usable = [session.agent for session, granted in self.grants if _refusal(session, granted) is None]
        return sorted(set(usable or [session.agent for session, _ in self.grants]))


def catalog(
    agent: Annotated[str | None, typer.Option("--agent", metavar="NAME", help="Only what this agent may use.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a server.")] = False,
) -> None:
    """Show the servers that you may use. Where the key is, whose it is, and which clients run the server already."""
    came = standings.picked_up(agent)
    if not as_json:
        tell_what_waited(came)
    stand = standings.of_all(agent)
    offers = _offers(stand)
    for one in scanning.of_machine(Path.home(), Path.cwd()).findings:
        if one.origin == CONFIG and one.server.percall:
            for offer in offers:
                if offer.entry.name == one.server.percall:
                    offer.configured.append(one.server)
    if as_json:
        for offer in offers:
            output.say_json(_as_json(offer))
    else:
        _tell(offers, stand)
    raise typer.Exit(next((one.error.exit_code for one in stand if one.error), 0))


def _offers(stand: list[Standing]) -> list[_Offer]:
    found: dict[tuple[str, str], _Offer] = {}
    for one in stand:
        for granted in one.session.servers if one.session else ():
            place = (granted.entry.name, one.login.broker)
            assert one.session is not None  # noqa: S101 - it has servers
            found.setdefault(place, _Offer(one.login.broker, granted.entry)).grants.append((one.session, granted))
    return [offer for _, offer in sorted(found.items())]


def _refusal(session: wire.Session, granted: wire.GrantedServer) -> wire.Refusal | None:
    return session.refusal or granted.refusal or granted.key_refusal


def _tell(offers: list[_Offer], stand: list[Standing]) -> None:
    unseen: dict[tuple[str, str], set[str]] = {}
    for one in stand:
        if one.error is not None:
            unseen.setdefault((one.login.broker, str(one.error)), set()).add(one.login.agent)
    for (broker, error), agents in unseen.items():
        whose = f"agent{'' if len(agents) == 1 else 's'} {', '.join(sorted(agents))}"
        output.say(f"{broker}, {whose}: as last seen. {error}")
    if not offers:
        output.say("You may use no server yet. Ask your administrator for a grant.")
        return
    rows = [
        (
            offer.entry.name,
            ", ".join(offer.agents),
            _KEYS.get(offer.key, "-"),
            ", ".join(sorted({server.client.title for server in offer.configured})) or "-",
            offer.entry.label,
        )
        for offer in offers
    ]
    output.table([("server", "agents", "key", "configured in", "label"), *rows])
    brokers = {offer.broker for offer in offers}
    for offer in offers:
        if len(brokers) > 1:
            output.say(f"{offer.entry.name} is at {offer.broker}.")
        if offer.refusal is not None:
            output.say(f"{offer.entry.name}: {offer.refusal}")
        if not home.accepts(offer.broker, offer.entry):
            output.say(
                f"{offer.entry.name}: its command is not accepted here yet: percall trust {word(offer.entry.name)}"
            )
    if any(offer.refusal is None for offer in offers):
        output.say("To use one: percall add SERVER --client CLIENT")


def _as_json(offer: _Offer) -> dict[str, object]:
    return {
        "server": offer.entry.name,
        "broker": offer.broker,
        "delivery": offer.entry.delivery,
        "label": offer.entry.label,
        "key": offer.key,
        "grants": [
            {"grant": session.grant, "agent": session.agent, "state": session.state, "tools": list(granted.tools)}
            for session, granted in offer.grants
        ],
        "refusal": output.error(offer.refusal),
        "trusted": home.accepts(offer.broker, offer.entry),
        "configured": [
            {"client": server.client.name, "file": str(server.file), "entry": server.name, "project": server.project}
            for server in offer.configured
        ],
    }
