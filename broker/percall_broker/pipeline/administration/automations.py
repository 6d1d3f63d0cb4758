"""What an automation may not do in areas that it may change, since more than the area hangs on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from percall_broker.log.canonical import canonical
from percall_broker.model.errors import Forbidden
from percall_broker.store.protocol import Statement

if TYPE_CHECKING:
    from collections.abc import Collection

    from percall_broker.model.records import Identity
    from percall_broker.pipeline.administration.ledger import Ledger
    from percall_broker.pipeline.administration.policies import PolicyBook


async def refuse_automation(ledger: Ledger, by: Identity | None, person: str, *, administers: bool = False) -> None:
    """An automation makes no administrator and no automation, and gives neither anything back; nor does it make an
    invite that an administrator's name stands on. Raises Forbidden.
    """
    if by is not None and by.grant.automation and (administers or await ledger.fetch("administrates", person=person)):
        raise Forbidden(
            "automation.administrators",
            "An automation makes no administrators, no automations and no invites for them, and lets none back in.",
            "An administrator does that, at a terminal.",
        )


async def refuse_invite(ledger: Ledger, policies: PolicyBook, by: Identity | None, person: str) -> None:
    """Whoever uses the invite of somebody without a passphrase sets it, and answers with it: an automation makes none
    for whom policies ask. Raises Forbidden.
    """
    if by is None or not by.grant.automation or await ledger.fetch("read_presence_key", person=person):
        return
    for group in sorted(await policies.asked()):
        if any(row["person"] == person for row in await ledger.fetch("list_members", group_name=group)):
            raise Forbidden(
                "automation.approvers",
                f"{person} answers for calls (group {group!r}) and has no passphrase yet, which an invite lets set.",
                "An administrator makes that invite, at a terminal.",
            )


def stopped_itself(by: Identity, action: str, *, server: str = "", **details: str) -> tuple[Statement, ...]:
    """Required where something goes on that was stopped by `action`, with these details first in the record: whoever
    stopped it, a person or another automation, knows why. A person lets everything go on.
    """
    if not by.grant.automation:
        return ()
    beginning = canonical({"details": details})[1:-2]
    parameters = {"action": action, "server": server, "details": beginning, "person": by.grant.person}
    return (Statement("stopped_itself", parameters, required=True),)


def not_its_stop(by: Identity) -> Forbidden:
    """The refusal that goes with it."""
    return Forbidden(
        "automation.brake",
        f"The automation {by.grant.person} lets go on only what it stopped itself.",
        "An administrator can do it.",
    )


def refuse_loopback(by: Identity, origins: Collection[str]) -> None:
    """An automation sends the broker to what listens on the broker's own machine (a vault's agent, a database's page)
    only where its area `loopback` says so. Raises Forbidden.
    """
    if origins and by.grant.automation and "loopback" not in by.grant.may:
        raise Forbidden(
            "automation.loopback",
            f"The automation {by.grant.person} may not name what is on the broker's own machine: {min(origins)}.",
            "An administrator can do it, or make an automation grant that may change loopback too.",
        )
