"""The nouns of the broker: frozen, without behaviour, and free of secrets unless a field says otherwise."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from percall_broker.model.entry import Entry


AREAS = ("people", "grants", "servers", "secrets", "policies", "webhooks", "loopback")
"""What an automation may be allowed to change. `servers` decides where keys go, so it is as strong as `secrets`.
`loopback` lets `servers` and `webhooks` name what listens on the broker's own machine.
"""
MOST_TOGETHER = 1000
"""How many grants, tools or people one change may name."""
APPROVAL_STATES = ("pending", "allowed", "used", "denied", "ended", "expired")


@dataclass(frozen=True, slots=True)
class Scope:
    """What a grant may use of one server: patterns for tools, prompts and resources; none unless named."""

    tools: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Freeze:
    """The brake. `kind` is all, person, device or server, `name` whose; `at` is in seconds since the epoch."""

    kind: str
    name: str
    reason: str
    by: str
    at: int


@dataclass(frozen=True, slots=True)
class PersonalKey:
    """A person's own key for a server: its newest version, and where the entry sent it when its owner gave it."""

    version: int
    binding: str


@dataclass(frozen=True, slots=True)
class Grant:
    """What one agent of one person may do. `device` is the device key's thumbprint (RFC 7638), empty until enrolled.

    `state` is active, suspended or revoked; `expires_at` is in seconds since the epoch, 0 for never. The person is
    active, suspended or removed, the device (the machine that the key is on) active or revoked. `claimable`: a device
    of the person picks it up, or did, without an invite. `sign_in_until`: when the person must have signed in at the
    organisation's provider again, in seconds; 0 for never. `group_grant`: what gave it to this member of a group. An
    `automation` administers without a person's presence, in the areas that it `may` change (of `AREAS`). `keys` are the
    person's own, by server; `vouched`: the device key was introduced with the person's passphrase, so it may use them.
    `groups` are those that the person is in; `nevers` what was refused to their agents for good: the approval's id, by
    server and tool. `version` rises when any of this changes.
    """

    id: str
    person: str
    agent: str
    device: str
    device_name: str
    administrator: bool
    servers: dict[str, Scope] = field(hash=False)
    state: str
    version: int
    expires_at: int
    created_at: int
    created_by: str
    claimable: bool = False
    group_grant: str = ""
    person_state: str = "active"
    device_id: str = ""
    device_state: str = "active"
    sign_in_until: int = 0
    freeze: Freeze | None = None
    automation: bool = False
    may: tuple[str, ...] = ()
    vouched: bool = False
    keys: dict[str, PersonalKey] = field(default_factory=dict, hash=False)
    groups: tuple[str, ...] = ()
    nevers: dict[tuple[str, str], str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Server:
    """A server of the catalogue, as stored. `state` is active, suspended or removed.

    `secret_version` 0 means it has no shared key; `policy_version` is that of the policies in force when it was read;
    `binding` says where the entry sends a key (`model.keys.binding`).
    """

    name: str
    version: int
    entry: Entry
    state: str
    secret_version: int
    freeze: Freeze | None = None
    policy_version: int = 0
    binding: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asked: the grant, and the id (`jti`) of the proof, which names the call, request or change that it opens.

    `presence` is how the person showed that they were there: passphrase, passkey, or empty where they did not;
    `automation` where a program changes something, which has no presence. `again`: the device says that it sends the
    request a second time, since the first answer was lost.
    """

    grant: Grant
    jti: str
    presence: str = ""
    again: bool = False


@dataclass(frozen=True, slots=True)
class Caller:
    """What a laptop says of who calls: the client's own name, and which run of the shim it is (may be empty)."""

    client: str
    session: str = ""


@dataclass(frozen=True, slots=True)
class Limit:
    """At most so many calls of one person in so many seconds."""

    most: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Approved:
    """The approval that lets a call pass: used up by it, or `lasting`. `told` is what the record says of it."""

    id: str
    lasting: bool
    told: dict[str, Any] = field(hash=False)


@dataclass(frozen=True, slots=True)
class Waiting:
    """The approval that a call waits for, until `expires_at` (seconds since the epoch); `url` is where it is given."""

    id: str
    expires_at: int
    url: str


@dataclass(frozen=True, slots=True)
class Decision:
    """permit or forbid, with the stable code of the rule that decided, a sentence, and what to do next.

    `policies` are those that decided, of `policy_version`. `ask` are the groups that must approve: such a call is not
    permitted until they have, and where `separate`, not by whoever asks; `approved` says that they have, `waiting` that
    they were asked, `approval` by which of them it was refused. `limits` are counted when a permit is recorded, by the
    policy's id. `observed` is what policies under observation would have said, where that differs.
    """

    permitted: bool
    code: str
    message: str
    next_step: str = ""
    policies: tuple[str, ...] = ()
    policy_version: int = 0
    ask: tuple[str, ...] = ()
    separate: bool = False
    approved: Approved | None = None
    waiting: Waiting | None = None
    approval: str = ""
    limits: tuple[tuple[str, Limit], ...] = ()
    observed: str = ""

    @property
    def effect(self) -> str:
        """As it is recorded, counted and traced: permit, ask (somebody was asked) or forbid."""
        return "permit" if self.permitted else "ask" if self.waiting else "forbid"
