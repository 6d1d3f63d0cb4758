"""What servers say their tools are: recorded at first sight, compared ever after, and refused when it changes.

A remote server is seen by the broker itself, so what it says counts for everybody, unless it was asked with somebody's
own key. What a laptop reports of a server that runs there counts for that grant alone: its word neither accepts
anything for others nor shuts it to them.
Where an administrator has accepted a definition, for everybody, first sights of that tool count no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from percall import wire
from percall.errors import WireError
from percall_broker.log import changes, events
from percall_broker.log.canonical import canonical
from percall_broker.model.errors import Conflict, InvalidInput
from percall_broker.model.standing import require, unusable
from percall_broker.pipeline.deciding import another_door
from percall_broker.stages.pins import Definition, Pins, difference, holder_of, sift
from percall_broker.store.protocol import Statement

if TYPE_CHECKING:
    from percall_broker.model.records import Identity, Server
    from percall_broker.pipeline.administration.ledger import Ledger
    from percall_broker.pipeline.signed import Signed
    from percall_broker.stages.authenticate import SignedRequest
    from percall_broker.stages.lookup import Lookup

CHANGED_EVENT = "tool.changed"
MOST_PINNED = 5000
"""The most tools of one server that are pinned at first sight, by the broker or by one laptop."""
_MOST_TOLD = 20
_MOST_RECORDED = 200
_ATTEMPTS = 3


class Tools:
    """Sightings. Every method raises Unavailable when the store cannot."""

    def __init__(self, ledger: Ledger, lookup: Lookup, signed: Signed) -> None:
        self._ledger = ledger
        self._lookup = lookup
        self._signed = signed

    async def seen(self, identity: Identity, at: Server, pins: Pins, news: tuple[Definition, ...], now: float) -> None:
        """Records definitions that differ from what was last seen. `pins` are those that they were sifted by.

        Raises Conflict when those have changed meanwhile.
        """
        if not news:
            return
        server, holder = at.name, holder_of(identity.grant, at)
        changed = {one.tool: await self._differs(server, pins, one) for one in news if not pins.takes(one)}
        first_sights = sum(one.tool not in pins.accepted for one in news)
        statements: list[Statement] = []
        if first_sights:
            room = {"server": server, "holder": holder, "more": first_sights, "most": MOST_PINNED}
            statements.append(Statement("may_pin_more", room, required=True))
        for one in news:
            this = {"server": server, "tool": one.tool, "digest": one.digest}
            statements.append(
                Statement(
                    "define_tool",
                    {**this, "definition": one.text, "annotations": canonical(one.annotations), "created_at": int(now)},
                )
            )
            if one.tool not in pins.accepted:
                first = {**this, "holder": holder, "pinned_at": int(now)}
                statements.append(Statement("pin_first_sight", first, required=True))
            sighting = {"holder": holder, "differs": changed.get(one.tool, ""), "seen_at": int(now)}
            statements.append(Statement("see_tool", {**this, **sighting}))
        statements.append(Statement("forget_definitions", {"server": server}))
        statements.append(changes.observation(identity, "tool.seen", server=server, tools=_recorded(news, changed)))
        if any(pins.changed(tool) is None for tool in changed):
            # What was decided on the tool as it was is decided again.
            touch = Statement("touch_grant", {"id": holder}) if holder else Statement("touch_servers", {"name": server})
            statements += [touch, *_announcement(identity, server, holder, news, changed, now)]
        if await self._ledger.change(*statements) is None:
            self._lookup.forget()
            raise Conflict(
                "tools.changing", "The server's tools were looked at by somebody else meanwhile.", "Try again."
            )

    async def reported(
        self, request: SignedRequest, report: wire.ToolsSeen, body: bytes, now: float
    ) -> wire.ToolsAnswer:
        """What a laptop's server says its tools are. Raises InvalidInput, Forbidden, Conflict."""
        identity = await self._signed.identify_once(request, now)
        tools = _tools(body)
        grant, server = identity.grant, await self._lookup.server(report.server, fresh=True)
        require(unusable(grant, report.server, server, now))
        assert server is not None  # noqa: S101 - what is not there is closed
        require(another_door(server, relayed=False))
        for _ in range(_ATTEMPTS):
            pins = await self._lookup.pins(server, grant, fresh=True)
            sifted = sift(pins, tools)
            try:
                await self.seen(identity, server, pins, sifted.news, now)
            except Conflict:
                continue
            return wire.ToolsAnswer(sifted.withheld)
        raise Conflict("tools.changing", "The accepted tools keep changing.", "Try again.")

    async def _differs(self, server: str, pins: Pins, definition: Definition) -> str:
        """In which members a definition is not the one that was accepted last."""
        rows = await self._ledger.fetch("read_definition", server=server, digest=pins.accepted[definition.tool][-1])
        return ",".join(difference(rows[0]["definition"], definition.text)) if rows else ""


def _tools(body: bytes) -> list[object]:
    try:
        tools = wire.strict_json(body)
    except WireError as error:
        raise InvalidInput("tools.form", error.message) from None
    if not isinstance(tools, list):
        raise InvalidInput("tools.form", "A report of tools is a list of their definitions.")
    return tools


def _recorded(news: tuple[Definition, ...], changed: dict[str, str]) -> dict[str, dict[str, str]]:
    told = sorted(news, key=lambda one: one.tool not in changed)[:_MOST_RECORDED]
    return {one.tool: {"digest": one.digest, "differs": changed.get(one.tool, "")} for one in told}


def _announcement(
    identity: Identity, server: str, holder: str, news: tuple[Definition, ...], changed: dict[str, str], now: float
) -> tuple[Statement, Statement]:
    """One event for what a server changed; of one laptop one an hour, for it may say what it likes."""
    digests = sorted(one.digest for one in news if one.tool in changed)
    key = (server, holder, str(int(now // 3600))) if holder else (server, *digests)
    who = {"grant": holder, "person": identity.grant.person} if holder else {"grant": "", "person": ""}
    tools = [_shown(tool) for tool in sorted(changed)[:_MOST_TOLD]]
    return events.event(CHANGED_EVENT, key, now, **who, server=server, tools=tools)


def _shown(tool: str) -> str:
    """A tool's name, where it is one: what a stranger wrote is not told on."""
    plain = tool.isascii() and all(character.isalnum() or character in "_-./" for character in tool)
    return tool if plain and len(tool) <= 128 else "?"  # noqa: PLR2004 - the specification's longest
