"""Whether a grant, or a server, may be used at all, at a given time; and if not, in whose words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from percall import wire
from percall_broker.model.errors import forbidden
from percall_broker.model.moments import to_the_minute
from percall_broker.model.records import Decision

if TYPE_CHECKING:
    from percall_broker.model.records import Freeze, Grant, Server

_ASK = "Ask your administrator."


def state_of(grant: Grant, now: float) -> str:
    """active, suspended, frozen, revoked or expired: of the grant, or of the person and device that it belongs to."""
    return _stop(grant, now)[0]


def ends_at(grant: Grant) -> int:
    """When it ends by itself, in seconds: by its own end or the person's next sign-in, the earlier; 0: never."""
    return min((end for end in (grant.expires_at, grant.sign_in_until) if end), default=0)


def is_waiting(grant: Grant, now: float) -> bool:
    """Whether a device of the person's may still pick it up."""
    return grant.claimable and not grant.device and state_of(grant, now) == "active"


def barred(grant: Grant, now: float) -> Decision | None:
    """The refusal that a grant's standing means for whatever it asks, or None when nothing stops it."""
    return _stop(grant, now)[1]


def key_barred(grant: Grant, now: float) -> Decision | None:
    """The refusal of what a device key asks for itself, whichever grant it shows: whether person and device stand."""
    return _stop_of_holder(grant, now)[1]


def require(refusal: Decision | None) -> None:
    """Raises Forbidden, in the refusal's words, where there is one."""
    if refusal is not None:
        raise forbidden(refusal)


def closed(name: str, server: Server | None) -> Decision | None:
    """The refusal of every call and request of a server that is suspended, frozen or gone; None when it is open."""
    if server is None or server.state == "removed":
        return _refusal("server.removed", f"The server {name!r} is no longer in the broker's catalogue.")
    if server.freeze is not None:
        return _frozen(server.freeze)
    if server.state != "active":
        next_step = f"Ask your administrator, who can resume it: percall-broker server resume {name}"
        return _refusal(f"server.{server.state}", f"The server {name!r} is {server.state}.", next_step)
    return None


def unusable(grant: Grant, name: str, server: Server | None, now: float) -> Decision | None:
    """The refusal of whatever a grant asks of a server that it may not use at all; None when it may.

    That there is such a server is told to a grant that names it.
    """
    refusal = barred(grant, now)
    if refusal is None and name not in grant.servers:
        return _refusal("grant.server", f"The grant does not name the server {name!r}.", "")
    return refusal or closed(name, server)


def _stop(grant: Grant, now: float) -> tuple[str, Decision | None]:
    """The state, and the refusal. What is final comes first, then what concerns most."""
    held = _stop_of_holder(grant, now)
    if grant.state == "revoked" and held[0] != "revoked":
        return "revoked", _refusal("grant.revoked", "This agent's grant is revoked.")
    if held[1] is not None:
        return held
    if grant.state != "active":
        return grant.state, _refusal(
            f"grant.{grant.state}", f"This agent's grant is {grant.state}.", "Ask your administrator to resume it."
        )
    if grant.expires_at and grant.expires_at <= now:
        next_step = "Ask your administrator for a new grant, then: percall login."
        return "expired", _refusal("grant.expired", "This agent's grant has expired.", next_step)
    return "active", None


def _stop_of_holder(grant: Grant, now: float) -> tuple[str, Decision | None]:
    person = grant.person
    if grant.person_state == "removed":
        return "revoked", _refusal("person.removed", f"{person} was removed from this broker.")
    if grant.device_state == "revoked":
        return "revoked", _refusal(
            wire.CODE_DEVICE_REVOKED,
            f"The device {grant.device_name!r} of {person} was revoked.",
            "Ask your administrator for an invite, then: percall login.",
        )
    if grant.person_state != "active":
        next_step = f"Ask your administrator, who can resume: percall-broker person resume {person}"
        return "suspended", _refusal("person.suspended", f"{person} is suspended at this broker.", next_step)
    if grant.sign_in_until and grant.sign_in_until <= now:
        next_step = "Sign in again, with the broker's URL: percall login URL"
        return "expired", _refusal("person.sign_in", f"{person} has to sign in again.", next_step)
    # Somebody must be able to lift a freeze of everything.
    if grant.freeze is not None and not (grant.freeze.kind == "all" and grant.administrator):
        return "frozen", _frozen(grant.freeze)
    return "active", None


def _frozen(freeze: Freeze) -> Decision:
    what, code, option = {
        "all": ("every call at this broker", "broker.frozen", "--all"),
        "person": (f"all that {freeze.name} may do", "person.frozen", f"--person {freeze.name}"),
        "device": ("all that this device may do", "device.frozen", f"--device {freeze.name}"),
        "server": (f"the server {freeze.name!r}", "server.frozen", f"--server {freeze.name}"),
    }[freeze.kind]
    why = f": {freeze.reason}" if freeze.reason else ""
    return _refusal(
        code,
        f"{freeze.by} froze {what} at {to_the_minute(freeze.at)} UTC{why}.",
        f"Wait until an administrator lifts it: percall-broker unfreeze {option}",
    )


def _refusal(code: str, message: str, next_step: str = _ASK) -> Decision:
    return Decision(permitted=False, code=code, message=message, next_step=next_step)
