"""What travels between shim and broker: the one definition, imported by both sides, with a version.

Everything is validated on arrival by both sides. A message is a JSON *head* on one line; where raw bytes
belong to it (a JSON-RPC frame, an HTTP body), they follow the head's newline untouched: `join` and `split`.
A request is signed as a whole, so that the proof's digest covers head and bytes alike.

Standard library only: the shim imports this before its child has started.
"""

from __future__ import annotations

import json
import math

from percall.errors import WireError
from percall.lean import dataclass, field, members

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, TypeVar

    T = TypeVar("T")

VERSION = 1
"""The version of everything in this module, in each request's header `percall-wire`.

It grows with a change that an older peer would misread. A new message, or a member that may be ignored, is none.
"""
SERVED = (1,)
"""The versions that a broker of this release serves: its own, and that of Percall's previous minor version.

The minor version is the second number of Percall's own: a broker 0.3.1 serves the shims 0.2.0 and 0.3.5 alike.
"""

HEADER_VERSION = "percall-wire"
HEADER_NONCE = "dpop-nonce"
HEADER_PRESENCE = "percall-presence"
HEADER_INTRODUCTION = "percall-introduction"
"""A claim's proof by the new device key that it brings."""
HEADER_CLIENT = "percall-client"
"""The client's name and version, beside a message to a remote server: as CallRequest's `client`."""
HEADER_SESSION = "percall-session"
"""Which run of the shim asks, beside a message to a remote server: as CallRequest's `session`."""
HEADER_APPROVAL = "percall-approval"
"""Beside a refusal of a message to a remote server that waits for an approval: an Asked, as JSON."""
MEDIA_TYPE = "application/vnd.percall+octets"

NONCE_CHALLENGE = "use_dpop_nonce"
"""The error of a challenge (RFC 9449) that comes with a HEADER_NONCE: the same request is made again, with it."""

PATH_HEALTH = "/healthz"
PATH_ENROL = "/v1/enrol"
PATH_INVITATION = "/v1/invitation"
PATH_PRESENCE = "/v1/presence"
PATH_SESSION = "/v1/session"
PATH_NONCE = "/v1/nonce"
"""An unsigned GET, answered with a HEADER_NONCE: a first signed request that bears it is answered at once."""
PATH_CALLS = "/v1/calls"
PATH_SETTLEMENTS = "/v1/settlements"
PATH_EGRESS = "/v1/egress"
PATH_EVENTS = "/v1/events"
PATH_CLAIMS = "/v1/claims"
PATH_SIGN_IN = "/v1/sign-in"
PATH_KEYS = "/v1/keys"
PATH_APPROVALS = "/v1/approvals"
PATH_INBOX = "/v1/inbox"
PATH_AGENT = "/v1/agent"
PATH_TOOLS = "/v1/tools"
PATH_CONSOLE_LINK = "/v1/console/link"
PATH_CONSOLE_ENROLMENT = "/v1/console/enrolment"
PATH_ADMIN = "/v1/admin/"
PATH_RELAY = "/mcp/"
"""A remote server's name follows."""

EVENT_NONCE = "nonce"
"""On the stream of PATH_EVENTS: `{"nonce": …}`, for the next proofs."""
EVENT_SESSION = "session"
"""On the same stream: a Session, at first and whenever it differs."""
EVENT_APPROVAL = "approval"
"""On the same stream: an Answered."""
HEARTBEAT_SECONDS = 15.0
"""The longest that the stream is silent."""

# The codes of refusals by which a laptop knows what to do; every other it only tells.
CODE_PATH = "request.path"
"""There is nothing at this path: so says every broker that is older than the path."""
CODE_RATE = "request.rate"
CODE_TIME = "proof.time"
CODE_PRESENCE = "presence.required"
CODE_GRANT_UNKNOWN = "grant.unknown"
CODE_DEVICE_OTHER = "device.other"
CODE_DEVICE_REVOKED = "device.revoked"
CODE_NO_SIGN_IN = "sign_in.none"
CODE_CREDENTIAL_USED = "credential.used"
CODE_SESSION_ENDED = "session.ended"
"""A remote server does not know the session of a client of an old era any more."""
CODES_OF_STANDING = frozenset(
    {
        *("grant.revoked", "grant.suspended", "grant.expired"),
        *("person.removed", "person.suspended", "person.frozen", "person.sign_in"),
        *(CODE_DEVICE_REVOKED, "device.frozen", "broker.frozen"),
        *("server.removed", "server.suspended", "server.frozen"),
    }
)
"""Not one request is refused by these, but all of this grant at this server: a laptop ends the server."""

MAX_FRAME_BYTES = 16 * 1024 * 1024
"""The longest JSON-RPC frame that is gated."""
MAX_NESTING = 64
"""The deepest nesting of a JSON-RPC frame that is gated."""
MAX_VALUES = 250_000
"""The most values of a JSON-RPC frame that is gated: a broker that reads millions answers nobody meanwhile."""
MAX_EVENT_BYTES = MAX_FRAME_BYTES + 64 * 1024
"""The longest event of a remote server's stream: a frame, and what names it."""
MAX_HEAD_BYTES = 256 * 1024
MAX_REPORT_BYTES = 4 * 1024 * 1024
"""How much a shim reports of a server's tools at once."""
MAX_EGRESS_BODY_BYTES = 64 * 1024 * 1024
CREDENTIAL_LIFETIME_SECONDS = 30
"""How long a call credential may wait to be redeemed."""
MAX_SKEW_SECONDS = 60
"""How far the clocks of laptop and broker may be apart: a proof that was made longer ago, or later, is refused."""
MAX_ROWS = 10_000
"""How many rows of the record are listed at once."""
MAX_REQUEST_SECONDS = 30 * 24 * 3600
"""How long a grant may last that is asked for by a GrantRequest."""
MAX_NAME_CHARACTERS = 64
MAX_DEVICE_CHARACTERS = 128
MIN_STRETCH_PASSES, MAX_STRETCH_PASSES = 2, 16
MIN_STRETCH_MEMORY_BYTES, MAX_STRETCH_MEMORY_BYTES = 64 * 1024 * 1024, 1024 * 1024 * 1024
"""What Argon2id may spend on a passphrase: no less, since a guess must cost; no more than a laptop can do."""

# --- Names ------------------------------------------------------------------------------------------------------------

_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._@+-")


def is_name(text: str) -> bool:
    """Whether a text can be the name of a person, an agent, a group or a server."""
    return 0 < len(text) <= MAX_NAME_CHARACTERS and _NAME_CHARACTERS.issuperset(text) and text[0] not in ".-"


def is_device_name(text: str) -> bool:
    """Whether a text can be the name of a device: one line, whatever its machine is called."""
    return 0 < len(text) <= MAX_DEVICE_CHARACTERS and text.isprintable()


# --- JSON, strictly ---------------------------------------------------------------------------------------------------


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise WireError("json.duplicate", "A JSON object names the same member twice.")
    return members


def _no_constant(name: str) -> None:
    raise WireError("json.number", f"{name} is not JSON.")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise WireError("json.number", "A number is larger than any that JSON's readers agree on.")
    return number


_STRICT = json.JSONDecoder(object_pairs_hook=_unique_members, parse_constant=_no_constant, parse_float=_finite)


def strict_json(data: bytes) -> Any:
    """One JSON value from UTF-8 bytes: no duplicate members, no NaN or Infinity, no lone surrogates, of bounded nesting
    and number of values.

    Raises WireError, whose code says which rule was broken.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise WireError("json.utf8", "The bytes are not UTF-8.") from None
    if text.startswith("\ufeff"):
        raise WireError("json.syntax", "A byte order mark is not JSON.")
    _check_structure(data)
    try:
        value = _STRICT.decode(text)
    except (ValueError, RecursionError):
        raise WireError("json.syntax", "The bytes are not JSON.") from None
    if "\\" in text and ("\\ud" in text or "\\uD" in text):  # the one character is found many times faster
        check_surrogates(value)
    return value


def check_surrogates(value: Any) -> None:
    """Raises WireError where a string of the value holds half of a surrogate pair, which has no UTF-8."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise WireError("json.surrogate", "A string holds half of a surrogate pair.") from None


_AS_SQUARE = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")


def _check_structure(data: bytes) -> None:
    """Bounds what reading will cost, in steps that stay in C."""
    is_large = len(data) > MAX_VALUES  # a value has a byte, and most have one more that parts it from the next
    if not is_large and not _has_many_brackets(data):
        return
    unescaped = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    # A value has two strings at most, its name and its text, of two quotes each.
    if is_large and unescaped.count(b'"') > 4 * MAX_VALUES:
        raise _too_many_values()
    outside_strings = b"".join(unescaped.split(b'"')[::2])
    if is_large and sum(map(outside_strings.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise _too_many_values()
    _check_nesting(outside_strings)


def _too_many_values() -> WireError:
    return WireError("json.values", f"JSON of more than {MAX_VALUES} values.")


def _check_nesting(outside_strings: bytes) -> None:
    """Takes off the innermost level of brackets, one round a level."""
    brackets = outside_strings.translate(_AS_SQUARE, _NOT_BRACKETS)
    for _ in range(MAX_NESTING):
        if not brackets:
            return
        brackets = brackets.replace(b"[]", b"")
    if brackets.startswith(b"["):
        raise WireError("json.nesting", f"JSON nested deeper than {MAX_NESTING} levels.")


def _has_many_brackets(data: bytes) -> bool:
    """Whether so many brackets are opened that they could be nested too deep. `find` is far quicker than `count`."""
    left = MAX_NESTING
    for bracket in (b"{", b"["):
        at = data.find(bracket)
        while at >= 0:
            if not left:
                return True
            left -= 1
            at = data.find(bracket, at + 1)
    return False


def dump(value: Any) -> bytes:
    """Compact JSON on one line."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    try:
        return text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which some servers' texts have: it exists as an escape alone
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def join(head: Mapping[str, Any], body: bytes = b"") -> bytes:
    """A message: the head on one line, then the bytes that belong to it."""
    return dump(head) + b"\n" + body


def split(message: bytes) -> tuple[dict[str, Any], bytes]:
    """The head and the bytes of a message. Raises WireError."""
    line, newline, body = message.partition(b"\n")
    if not newline or len(line) > MAX_HEAD_BYTES:
        raise WireError("wire.head", "The message has no head.")
    head = strict_json(line)
    if not isinstance(head, dict):
        raise WireError("wire.head", "The message's head is not a JSON object.")
    return head, body


# --- Messages ---------------------------------------------------------------------------------------------------------


def encode(message: Any) -> dict[str, Any]:
    """A message of this module as a JSON object; absent optional members are left out."""
    return {name: value for name, value in _plain(message).items() if value is not None}


_SCALARS = frozenset({str, int, bool, type(None)})


def _plain(value: Any) -> Any:
    """The value with its messages as dictionaries, at every depth."""
    if type(value) in _SCALARS:
        return value
    if isinstance(value, tuple):
        return tuple(_plain(item) for item in value) if value else value
    if hasattr(value, "__match_args__"):
        return {name: _plain(getattr(value, name)) for name in value.__match_args__}
    return dict(value) if isinstance(value, dict) else value


def decode(kind: type[T], value: Any) -> T:
    """A message of this module from a JSON object. Unknown members are ignored, so that a newer peer may add some.

    Raises WireError when a member is missing or of the wrong type.
    """
    if not isinstance(value, dict):
        raise WireError("wire.type", f"{kind.__name__}: a JSON object was expected.")
    arguments: dict[str, Any] = {}
    for name, written in members(kind).items():
        if name in value:
            try:
                arguments[name] = _READERS[written](value[name])
            except (TypeError, ValueError):
                raise WireError("wire.type", f"{kind.__name__}: {name!r} is not of type {written}.") from None
    try:
        return kind(**arguments)
    except TypeError:
        missing = [name for name in members(kind) if name not in arguments]
        raise WireError("wire.missing", f"{kind.__name__}: missing one of {', '.join(missing)}.") from None


def _exactly(expected: type[T]) -> Callable[[Any], T]:
    def read(value: Any) -> T:
        if type(value) is not expected:
            raise TypeError
        return value

    return read


def _optional(reader: Callable[[Any], T]) -> Callable[[Any], T | None]:
    return lambda value: None if value is None else reader(value)


def _list_of(reader: Callable[[Any], T]) -> Callable[[Any], tuple[T, ...]]:
    return lambda value: tuple(reader(item) for item in _exactly(list)(value))


def _map_of(reader: Callable[[Any], T]) -> Callable[[Any], dict[str, T]]:
    return lambda value: {_exactly(str)(name): reader(item) for name, item in _exactly(dict)(value).items()}


def _pair(value: Any) -> tuple[str, str]:
    name, text = _exactly(list)(value)
    return _exactly(str)(name), _exactly(str)(text)


def _message(kind: type[T]) -> Callable[[Any], T]:
    return lambda value: decode(kind, value)


_string, _integer = _exactly(str), _exactly(int)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the answer is no: a stable code, a sentence for the person, and what to do next."""

    code: str
    message: str
    next_step: str = ""

    def __str__(self) -> str:
        """For a person, as one of our errors is told."""
        return f"{self.message} {self.next_step}".rstrip()


def refusal_in(answer: bytes) -> Refusal | None:
    """What the body of an answer that is no success says; None where no broker has written it."""
    try:
        return decode(Refusal, strict_json(answer)["error"])
    except (WireError, KeyError, TypeError):
        return None


@dataclass(frozen=True, slots=True)
class Settlement:
    """The outcome of a call as the shim saw it. Settling twice is harmless; the first one stands.

    `outcome` is done, failed, refused or unknown; `duration_ms` is from the frame's arrival to its answer; `observed`
    counts the server-to-client requests (`elicitation/create`, `roots/list` …) that passed while the call was open.
    """

    call: str
    outcome: str
    duration_ms: int
    observed: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CallRequest:
    """The head of a request to decide one call; the exact bytes of the JSON-RPC frame follow it.

    The proof's `jti` becomes the call's id. `client` is the client's `clientInfo` name and version, as claimed;
    `settle` carries outcomes of earlier calls along; `traceparent` is the client's (W3C Trace Context), as it came.
    `session` names this run of the shim, for an approval that holds as long as it runs.
    """

    server: str
    client: str = ""
    settle: tuple[Settlement, ...] = ()
    traceparent: str | None = None
    session: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """The approval that a call waits for, until `expires_at` (seconds since the epoch).

    Of each of `groups` somebody must give it; `url` is the page where a person does.
    """

    id: str
    expires_at: int
    groups: tuple[str, ...]
    url: str


@dataclass(frozen=True, slots=True)
class CallAnswer:
    """The broker's decision on one call: permit, ask or forbid.

    With `ask`, the call waits for `approval`: the shim asks again for the same frame once the event stream or
    PATH_APPROVALS says that it was answered. The refusal is what is said to a client that waits no longer.

    `credential` is the call credential (absent where the delivery has no key); it is single use, and redeemed within
    CREDENTIAL_LIFETIME_SECONDS by the call's first egress request. The window closes after `deadline_seconds`.
    `traceparent` names the broker's span of this call, where it traces.
    """

    call: str
    decision: str
    deadline_seconds: int = 0
    credential: str | None = None
    refusal: Refusal | None = None
    traceparent: str | None = None
    approval: Asked | None = None


@dataclass(frozen=True, slots=True)
class Settlements:
    """Outcomes that had no later request to ride on."""

    settle: tuple[Settlement, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """One open call that an egress request may belong to; `credential` until it has been redeemed.

    `traceparent` is what the broker answered of the call.
    """

    call: str
    credential: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class EgressRequest:
    """The head of one API request of the child; the request's body follows it. The proof's `jti` is the request's id.

    `windows` lists the open calls, newest first: one with attribution exact, none at start-up. `url` is absolute, as
    the child meant it. `placeholder` is what stands in the slot, for the broker to replace by the key.
    """

    server: str
    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    placeholder: str
    windows: tuple[Window, ...] = ()
    settle: tuple[Settlement, ...] = ()


@dataclass(frozen=True, slots=True)
class EgressAnswer:
    """The head of the answer to an EgressRequest: the upstream's status and headers; its body follows, streamed."""

    status: int
    headers: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Stretch:
    """How a person's presence key is derived from their passphrase: by Argon2id, with this salt (base64url)."""

    kind: str
    salt: str
    passes: int
    memory_bytes: int


def is_bounded(stretch: Stretch) -> bool:
    """Whether a derivation is of a kind that we know, neither cheap to guess nor more than a laptop can do.

    Both sides ask: a broker for what it keeps, a laptop for what a broker tells it.
    """
    is_memory_bounded = MIN_STRETCH_MEMORY_BYTES <= stretch.memory_bytes <= MAX_STRETCH_MEMORY_BYTES
    is_time_bounded = MIN_STRETCH_PASSES <= stretch.passes <= MAX_STRETCH_PASSES
    return stretch.kind == "passphrase" and is_memory_bounded and is_time_bounded


@dataclass(frozen=True, slots=True)
class PresenceKey:
    """The public half of a presence key (base64url), and how the private half is derived."""

    stretch: Stretch
    public_key: str


def presence_text(method: str, url: str, body_digest: str, jti: str) -> bytes:
    """What a presence key signs: one request, by the id of its proof, and nothing that any other key of ours signs.

    `url` is the broker's public URL with the path: the one part that may hold a newline, so that no two requests have
    one text.
    """
    return f"percall presence 1\n{method}\n{url}\n{body_digest}\n{jti}".encode()


@dataclass(frozen=True, slots=True)
class InviteCode:
    """Asks what an invite is for, without spending it."""

    invite: str


@dataclass(frozen=True, slots=True)
class Invitation:
    """What an invite is for. `stretch` is how its person's presence key is derived, absent where they have none.

    `may_set_presence`: a login with this invite may give the person one. `agent` is the one that its grant is for;
    empty: whoever logs in names it.
    """

    person: str
    administrator: bool
    may_set_presence: bool
    stretch: Stretch | None = None
    agent: str = ""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A device introduces itself with an invite; `device_key` is a public JWK (RFC 7517).

    `device` is the machine's name; `device_id` says which of this person's machines it is, where the broker knows it.
    `presence` gives the person a presence key; who has one already signs the enrolment with it instead.
    """

    invite: str
    device_key: dict[str, str]
    agent: str
    device: str
    device_id: str = ""
    presence: PresenceKey | None = None


@dataclass(frozen=True, slots=True)
class ServerEntry:
    """The laptop's half of a server entry: how to launch it, and how its API traffic finds the listener. No secret.

    `environment` values may contain `{key}`, which becomes this child's placeholder; `{proxy}`, the URL of the way in
    proxy; and `{listener:ORIGIN}`, the loopback base URL that stands for ORIGIN (`https://api.example.com`). `ways` are
    the ways in that are set up for the child: base-url, preload, proxy. `hosts` are the origins whose requests go to
    the broker (`https://api.example.com`, `https://*.example.com`); `unlisted_hosts` says what happens to others:
    tunnel or refuse. `placeholder` is a format: `{random:N}` becomes N random letters and digits. `attribution` is
    exact or shared. `startup` says whether any request is allowed before the first call.

    `probe_tool` with `probe_arguments` (a JSON object) is a read-only call that shows whether the server works; empty
    where there is none. `launches` and `keys` are how a client's config shows that it means this server: what it
    launches (`percall.clients.launches`), and the variables and options that hold its key. `deadline_seconds` is when a
    call of it ends at the latest; 0 where the broker does not say.
    """

    name: str
    version: int
    delivery: str
    label: str
    command: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    pass_environment: tuple[str, ...] = ()
    placeholder: str = ""
    ways: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    unlisted_hosts: str = "refuse"
    attribution: str = "shared"
    startup: bool = False
    sampling: bool = False
    probe_tool: str = ""
    probe_arguments: str = ""
    launches: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    deadline_seconds: int = 0


@dataclass(frozen=True, slots=True)
class GrantedServer:
    """A server that a grant covers: its entry, and the patterns that filter `tools/list` as a courtesy.

    `refusal` says why nothing may use the server now: it is suspended or frozen. `key` is whose key its requests carry:
    `own`, `shared`, or empty for none; `key_refusal` says why no call that needs one is permitted.
    """

    entry: ServerEntry
    tools: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    refusal: Refusal | None = None
    key: str = ""
    key_refusal: Refusal | None = None


def _granted_servers(value: Any) -> tuple[GrantedServer, ...]:
    """Of two servers with one name, one would be shown and the other be run."""
    servers = _list_of(_message(GrantedServer))(value)
    if len({granted.entry.name for granted in servers}) != len(servers):
        raise ValueError
    return servers


@dataclass(frozen=True, slots=True)
class Automation:
    """An administrator's grant for a program: it changes things without a person's presence, in these areas alone."""

    name: str
    may: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Session:
    """What a grant may use, as the broker sees it now. `state` is active, suspended, frozen, revoked or expired: of the
    grant, or of the person and device it belongs to; `refusal` says so in words where it is not active. Times are
    seconds since the epoch; `expires_at` 0 means never. `administrator` grants change the broker and make no calls.
    `device` is the machine's name, `device_id` its id at the broker.

    `stretch` says how the person's presence key is derived, absent where they have none. `automations` lists the
    automation grants that stand: all of them to an administrator, itself to an automation.
    """

    grant: str
    person: str
    agent: str
    device: str
    state: str
    expires_at: int
    administrator: bool
    version: int
    servers: tuple[GrantedServer, ...] = ()
    device_id: str = ""
    refusal: Refusal | None = None
    stretch: Stretch | None = None
    automation: bool = False
    automations: tuple[Automation, ...] = ()


@dataclass(frozen=True, slots=True)
class Enrolled:
    """The answer to an Enrolment: the grant (an `at+jwt`, RFC 9449) and what it may use."""

    token: str
    session: Session


@dataclass(frozen=True, slots=True)
class WaitingGrant:
    """A grant that a device of its person may pick up; `agent` is empty where any agent may."""

    grant: str
    agent: str
    servers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits for a person's devices, and what this device has `taken`: the answer may not have reached it."""

    grants: tuple[WaitingGrant, ...] = ()
    taken: tuple[WaitingGrant, ...] = ()


@dataclass(frozen=True, slots=True)
class SignInOffer:
    """Where the organisation's people sign in: the provider's authorization endpoint, and who asks there."""

    issuer: str
    authorization_endpoint: str
    client_id: str
    scope: str


@dataclass(frozen=True, slots=True)
class SignIn:
    """The provider's code, with what only this laptop knows of the sign-in: verifier (RFC 7636) and nonce.

    `enrol`: this device has no key there yet, and needs an invite.
    """

    code: str
    verifier: str
    nonce: str
    redirect_uri: str
    enrol: bool


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Who that is here, when to sign in again (seconds since the epoch), and an invite where one was asked for."""

    person: str
    until: int
    invite: str | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A known device picks up what waits for one of its agents.

    `device_key` is the public JWK that the grants will be bound to: the signer's own, or a new agent's, which then
    signs HEADER_INTRODUCTION as an enrolment's proof over this request.
    """

    agent: str
    device_key: dict[str, str]


@dataclass(frozen=True, slots=True)
class Claimed:
    """All that this key has ever picked up and that still stands; an answer that was lost is given again."""

    enrolled: tuple[Enrolled, ...] = ()


@dataclass(frozen=True, slots=True)
class Departed:
    """An agent has left its device: the grants that ended with it."""

    ended: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KeyChange:
    """A person changes their own key for a server, being there. `verb` is add, rotate, confirm,
    offer, withdraw or remove.

    To add or rotate, the key itself follows this head as raw bytes; nothing follows otherwise. `binding` is that of the
    place (`KeyPlace`) that the person has seen: where the entry sends the key elsewhere by now, nothing is changed. To
    confirm, it must be there.
    """

    server: str
    verb: str
    binding: str = ""


@dataclass(frozen=True, slots=True)
class PersonalKey:
    """A key of the signer's person. Times are seconds since the epoch; `offered_at` 0: it is not offered.

    `goes_to` says for people where the server's entry sends it now; `refusal` why it is not used from the signer's
    device and agent.
    """

    server: str
    version: int
    created_at: int
    offered_at: int = 0
    goes_to: str = ""
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class KeyPlace:
    """A server that takes a key of the signer's person: where it sends it, for people, and the digest of that."""

    server: str
    goes_to: str
    binding: str


@dataclass(frozen=True, slots=True)
class PersonalKeys:
    """The keys of the signer's person, or the one that was changed; none where it was removed.

    `places` are the servers that take one, where all of the keys were asked for.
    """

    keys: tuple[PersonalKey, ...] = ()
    places: tuple[KeyPlace, ...] = ()


@dataclass(frozen=True, slots=True)
class OwnApproval:
    """Something that a grant has asked. `kind` is call or grant; `state` is pending, allowed, used, denied, ended or
    expired; `url` is the page where a person answers it. Times are seconds since the epoch.
    """

    id: str
    kind: str
    state: str
    server: str
    tool: str
    reason: str
    asked_at: int
    expires_at: int
    url: str


@dataclass(frozen=True, slots=True)
class OwnApprovals:
    """What a grant has asked, newest first."""

    approvals: tuple[OwnApproval, ...] = ()


@dataclass(frozen=True, slots=True)
class Answered:
    """On the event stream: approvals of this grant that were answered just now, whatever the answer."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GrantRequest:
    """Asks for a grant of some tools of a server for this agent, for some seconds from when it is allowed."""

    server: str
    tools: tuple[str, ...]
    seconds: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ToolsSeen:
    """The head of a report: what a server that runs here says its tools are. Their definitions follow, a JSON list."""

    server: str


@dataclass(frozen=True, slots=True)
class ToolsAnswer:
    """Which of the reported tools are not what was accepted, and so are not to be shown."""

    withheld: tuple[str, ...] = ()


_READERS: dict[str, Callable[[Any], Any]] = {
    "str": _string,
    "int": _integer,
    "bool": _exactly(bool),
    "str | None": _optional(_string),
    "tuple[str, ...]": _list_of(_string),
    "tuple[str, ...] | None": _optional(_list_of(_string)),
    "tuple[tuple[str, str], ...]": _list_of(_pair),
    "dict[str, str]": _map_of(_string),
    "dict[str, int]": _map_of(_integer),
    "Refusal | None": _optional(_message(Refusal)),
    "Asked | None": _optional(_message(Asked)),
    "Stretch": _message(Stretch),
    "Stretch | None": _optional(_message(Stretch)),
    "PresenceKey | None": _optional(_message(PresenceKey)),
    "tuple[Automation, ...]": _list_of(_message(Automation)),
    "ServerEntry": _message(ServerEntry),
    "Session": _message(Session),
    "tuple[WaitingGrant, ...]": _list_of(_message(WaitingGrant)),
    "tuple[PersonalKey, ...]": _list_of(_message(PersonalKey)),
    "tuple[KeyPlace, ...]": _list_of(_message(KeyPlace)),
    "tuple[Enrolled, ...]": _list_of(_message(Enrolled)),
    "tuple[Settlement, ...]": _list_of(_message(Settlement)),
    "tuple[OwnApproval, ...]": _list_of(_message(OwnApproval)),
    "tuple[Window, ...]": _list_of(_message(Window)),
    "tuple[GrantedServer, ...]": _granted_servers,
}
