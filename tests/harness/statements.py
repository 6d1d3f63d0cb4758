"""The statements of a call, filled in for the person, device, grant and server that the store's tests seed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from percall_broker.store import Statement

if TYPE_CHECKING:
    from percall_broker.store import Store
    from percall_broker.store.protocol import Row

SEEDS = Path(__file__).parent / "queries"
NO_KEY = {"secret_owner": "", "secret_version": 0, "binding": ""}
SHARED_KEY = NO_KEY | {"secret_version": 1}


def call(name: str, **changes: Any) -> Statement:
    """The intent of a call."""
    parameters = {
        "id": name, "time_ms": 1000, "grant_id": "g", "grant_version": 1, "person": "alice", "agent": "default",
        "device": "key", "server": "github", "server_version": 1, "tool": "get_me", "reason": "grant.tool",
        "deadline_ms": 601_000, "approval": "", "entry": f'{{"call":"{name}"}}', "now": 1, **NO_KEY,
    }  # fmt: skip
    return Statement("record_call", parameters | changes)


def redemption(name: str, **changes: Any) -> Statement:
    """The use of a call's credential."""
    parameters = {
        "call": name, "time_ms": 1001, "grant_id": "g", "grant_version": 1, "device": "key", "server": "github",
        "entry": "{}", "now": 1,
    }  # fmt: skip
    return Statement("redeem", parameters | changes, required=True)


def request(name: str, call: str, **changes: Any) -> Statement:
    """The intent of an API request within a call."""
    parameters = {
        "id": name, "call": call, "time_ms": 1002, "grant_id": "g", "grant_version": 1, "device": "key",
        "server": "github", "server_version": 1, "reason": "request.rule", "entry": "{}", "now": 1, "max_requests": 3,
        "carried_version": 1, **SHARED_KEY,
    }  # fmt: skip
    return Statement("record_request", parameters | changes, required=True)


def outcome(call: str, **changes: Any) -> Statement:
    """How a call ended."""
    parameters = {
        "call": call, "time_ms": 1003, "grant_id": "g", "outcome": "done", "reason": "settled", "duration_ms": 3,
        "entry": "{}",
    }  # fmt: skip
    return Statement("record_outcome", parameters | changes)


def startup(name: str, **changes: Any) -> Statement:
    """The intent of an API request outside any call."""
    parameters = {
        "id": name, "time_ms": 1002, "grant_id": "g", "grant_version": 1, "person": "alice", "agent": "default",
        "device": "key", "server": "github", "server_version": 1, "tool": "", "reason": "request.startup",
        "entry": "{}", "now": 1, "carried_version": 1, **SHARED_KEY,
    }  # fmt: skip
    return Statement("record_request_of_no_call", parameters | changes)


def administration(time_ms: int, kind: str = "change", reason: str = "") -> Statement:
    """A change by an administrator, or a reading; its time is its id and its entry too."""
    row = dict.fromkeys(("call", "grant_id", "person", "agent", "device", "server"), "")
    row |= {"kind": kind, "id": str(time_ms), "reason": reason, "entry": str(time_ms)}
    return Statement("record_change", {**row, "time_ms": time_ms})


def freeze(kind: str, name: str = "") -> Statement:
    """An administrator's, of a person, a device, a server, or all."""
    return Statement("add_freeze", {"kind": kind, "name": name, "reason": "", "created_at": 1, "created_by": "admin"})


def asking(name: str, subject: str = "", group: str = "leads", **changes: Any) -> tuple[Statement, ...]:
    """A question to a group, as a call of the grant `g` puts it. An empty group: to the administrators."""
    row: dict[str, Any] = {
        "id": name, "kind": "call", "grant_id": "g", "person": "alice", "agent": "default", "device": "laptop",
        "server": "github", "method": "tools/call", "tool": "merge", "subject": subject or name, "arguments": "d",
        "call": name, "session": "", "policies": "[]", "policy_version": 1, "separate": 0, "reason": "", "wanted": "",
        "digest": "seen", "asked_ms": 10_000, "expires_at": 3600, "most": 20, "now": 10, **changes,
    }  # fmt: skip
    return (
        Statement("hold_grant", {"id": "g", "version": 1, "device": "key"}, required=True),
        Statement("close_approvals", {"grant_id": "g", "subject": row["subject"], "now": row["now"]}),
        Statement("add_approval", row, required=True),
        Statement("add_approval_group", {"approval": name, "group_name": group}),
    )


def allowing(name: str, person: str = "lea", digest: str = "seen") -> tuple[Statement, ...]:
    """That person's yes to it, once, for those groups that they are in, of what they have seen."""
    held = {"id": name, "digest": digest, "person": person, "now": 20}
    answer = {"approval": name, "person": person, "presence": "passphrase", "time_ms": 20_000, "now": 20}
    allowed = {"id": name, "scope": "once", "time_ms": 20_000, "expires_at": 900}
    return (
        Statement("hold_approval", held, required=True),
        Statement("answer_for_groups", answer, required=True),
        Statement("allow_approval", allowed, required=True),
    )


def using(name: str, identifier: str, **changes: Any) -> tuple[Statement, ...]:
    """A call that a yes lets pass."""
    bound = {"approval": name, "call": identifier, "grant_id": "g", "subject": name, "now": 30} | changes
    return (call(identifier, approval=name), Statement("use_approval", bound, required=True))


def seeds() -> tuple[Statement, ...]:
    """A person with a device, a grant of theirs, and a server."""
    return (
        Statement("seed_person", {"name": "alice"}),
        Statement("seed_device", {"id": "d", "person": "alice"}),
        Statement("seed_device_key", {"thumbprint": "key", "person": "alice", "device": "d"}),
        Statement("seed_grant", {"id": "g", "person": "alice", "device": "key", "expires_at": 0}),
        Statement("seed_server", {"name": "github"}),
    )


async def changed(store: Store, statement: str, /, **parameters: Any) -> list[Row]:
    """What a statement says that it changed."""
    done = await store.transact(Statement(statement, parameters))
    assert done is not None
    return done[0]
