"""Whether a grant may be used at all, at a given time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from percall_broker.model.records import Decision

if TYPE_CHECKING:
    from percall_broker.model.records import Grant


def state_of(grant: Grant, now: float) -> str:
    """active, suspended, revoked or expired."""
    if grant.state == "active" and grant.expires_at and grant.expires_at <= now:
        return "expired"
    return grant.state


def barred(grant: Grant, now: float) -> Decision | None:
    """The refusal that a grant's state means for whatever it asks, or None when it is active."""
    state = state_of(grant, now)
    if state == "active":
        return None
    next_steps = {
        "suspended": "Ask your administrator to resume it.",
        "expired": "Ask your administrator for a new invite, then: percall login.",
    }
    verb = "has" if state == "expired" else "is"
    return Decision(
        permitted=False,
        code=f"grant.{state}",
        message=f"This agent's grant {verb} {state}.",
        next_step=next_steps.get(state, "Ask your administrator."),
    )
