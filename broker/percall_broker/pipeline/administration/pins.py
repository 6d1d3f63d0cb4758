"""What servers say their tools are, as administrators look at it and accept it. Its text is shown, never believed."""

from __future__ import annotations

import difflib
import json
import time
from typing import TYPE_CHECKING, Any

from percall_broker.log import changes
from percall_broker.model.errors import Conflict, InvalidInput
from percall_broker.model.pins import ACCEPTED, CHANGED, OLD, SEEN, written
from percall_broker.model.records import MOST_TOGETHER
from percall_broker.pipeline.administration import unknown
from percall_broker.stages.pins import difference
from percall_broker.store.protocol import Row, Statement

if TYPE_CHECKING:
    from collections.abc import Mapping

    from percall_broker.model.records import Identity
    from percall_broker.pipeline.administration.ledger import Ledger


class ToolPins:
    """Accepted definitions. Every method raises Unavailable when the store cannot."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def listed(self, server: str) -> list[Row]:
        """Each definition of a server's tools that is accepted or seen, with what it changes. Raises NotFound.

        `state` is accepted (by an administrator), first seen, changed (and refused), or not seen now; `base` is the
        digest of what `difference` is from.
        """
        if not any(row["name"] == server for row in await self._ledger.fetch("list_servers")):
            raise unknown.server(server)
        rows = await self._ledger.fetch("list_tools", server=server)
        texts = {row["digest"]: row["definition"] for row in rows}
        bases = {row["tool"]: row["digest"] for row in sorted(rows, key=_when_pinned) if row["pinned"]}
        found = []
        for row in rows:
            state = _state(row)
            base = bases.get(row["tool"], "")
            if state == CHANGED and not base:
                first = await self._ledger.fetch("first_seen", server=server, tool=row["tool"])
                base = first[0]["digest"] if first else ""
            base = base if state == CHANGED else ""
            found.append({**_shown(row, state, texts.get(base, "")), "base": base})
        return sorted(found, key=lambda row: (row["tool"], row["state"] == CHANGED))

    async def accept(self, by: Identity, server: str, tools: Mapping[str, str], *, replace: bool) -> list[Row]:
        """Accepts definitions, by the digests that were looked at, for everybody; `replace`: and none but these.

        Raises InvalidInput, NotFound, Conflict when one of them is not what anybody sees or has accepted.
        """
        if not 0 < len(tools) <= MOST_TOGETHER:
            raise InvalidInput("pin.which", f"Name 1 to {MOST_TOGETHER} tools.", "See: percall-broker server pins.")
        known = {(row["tool"], row["digest"]) for row in await self.listed(server)}
        strangers = [tool for tool, digest in sorted(tools.items()) if (tool, digest) not in known]
        statements = []
        for tool, digest in sorted(tools.items()):
            if replace:
                statements.append(Statement("unpin_tool", {"server": server, "tool": tool}))
            at = {"server": server, "tool": tool, "digest": digest}
            statements.append(
                Statement(
                    "pin_tool", {**at, "pinned_at": int(time.time()), "pinned_by": by.grant.person}, required=True
                )
            )
        done = None
        if not strangers:
            done = await self._ledger.change(
                *statements,
                Statement("touch_servers", {"name": server}),
                changes.change(by, "server.pin", server=server, tools=dict(tools), replace=replace),
            )
        if done is None:
            raise Conflict(
                "pin.gone",
                f"Not what anybody sees (any more): {', '.join(strangers) or 'one of them'}. Nothing was accepted.",
                "Look again: percall-broker server pins.",
            )
        return [row for row in await self.listed(server) if row["tool"] in tools]


def _when_pinned(row: Row) -> tuple[int, str]:
    return row["pinned_at"], row["digest"]


def _state(row: Row) -> str:
    if row["refused"]:
        return CHANGED
    if row["pinned_by"]:
        return ACCEPTED
    if row["pinned"] or row["laptops"]:
        return SEEN
    return OLD


def _shown(row: Row, state: str, base: str) -> Row:
    definition = json.loads(row["definition"])
    return {
        "tool": row["tool"],
        "state": state,
        "digest": row["digest"],
        "differs": list(difference(base, row["definition"])) if base else [],
        "laptops": row["laptops"],
        "refused": row["refused"],
        "pinned_by": row["pinned_by"],
        "pinned_at": row["pinned_at"],
        "first_seen_at": row["created_at"],
        "definition": definition,
        "difference": _difference(json.loads(base), definition) if base else [],
    }


def _difference(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Lines with `+`, `-` or a blank before them."""
    lines = difflib.unified_diff(written(before), written(after), n=2, lineterm="")
    return [line for line in lines if not line.startswith(("+++", "---", "@@"))]
