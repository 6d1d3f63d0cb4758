"""The files of the laptop's side, under PERCALL_HOME: logins, cached sessions, trust in launch commands.

The folder is 0700 and each file 0600, replaced atomically; one file holds one record, so that several shims and
commands never undo one another's writes. No secret is written here: key and grant token live in the keyring (of
which the passphrase-encrypted variant keeps its sealed files beside these).

    logins/GRANT.json   sessions/GRANT.json   trust/BROKER/SERVER.json   tools/GRANT/SERVER.json
    authorities/DIGEST.pem   certificates/RUN/bundle.pem   adoptions/ID.json   adoptions/ID.sealed
    keyring/GRANT.sealed

Standard library only, and little of it: `percall run` imports this before its child has started.
"""

# pathlib would cost 6 ms of each start.
# ruff: noqa: PTH100, PTH101, PTH103, PTH105, PTH108, PTH111, PTH116, PTH118, PTH120, PTH123, PTH208

from __future__ import annotations

import os
import time

from percall import wire
from percall.errors import UsageError, WireError, word
from percall.lean import dataclass

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import TypeVar

    T = TypeVar("T")

VARIABLE = "PERCALL_HOME"
DEFAULT_AGENT = "default"
_ROOM_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Login:
    """One enrolment of this device: which grant, at which broker, and where its key and token are kept.

    `broker` is the public URL without a trailing slash. `keyring` is os or file; `backend` is the class of the OS
    keyring that was chosen then. `ca_file` and `passphrase_file` are paths, empty for none. `created_at` is in
    nanoseconds, so that two logins in one second keep their order. `proxy` is the one that was in use then, without
    its password.
    """

    grant: str
    broker: str
    agent: str
    person: str
    device: str
    keyring: str
    created_at: int
    backend: str = ""
    ca_file: str = ""
    passphrase_file: str = ""
    proxy: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """A server that a login on this device covers."""

    login: Login
    session: wire.Session
    granted: wire.GrantedServer


@dataclass(frozen=True, slots=True)
class SeenTools:
    """What the broker has said of a server's tools: digests of what it accepted, and names of what it withheld."""

    accepted: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trust:
    """The launch that a person accepted for one server of one broker, and the PATH of the terminal where they did.

    `hosts` are the origins whose answers come from the broker, by `intercepted`; None where it was not recorded yet.
    """

    broker: str
    server: str
    command: tuple[str, ...]
    environment: dict[str, str]
    pass_environment: tuple[str, ...]
    path: str
    accepted_at: int
    hosts: tuple[str, ...] | None = None


# --- Where ------------------------------------------------------------------------------------------------------------


def folder() -> str:
    """PERCALL_HOME, or `~/.percall`. Raises UsageError where neither names a place."""
    named = os.environ.get(VARIABLE, "")
    if named:
        return os.path.abspath(named)
    place = os.path.expanduser("~")
    if place == "~":
        raise UsageError("home.unknown", "There is no home directory.", f"Set {VARIABLE} to a folder.")
    return os.path.join(place, ".percall")


def path(relative: str) -> str:
    """Where a file under the home lies; `relative` is written with slashes. Raises UsageError."""
    return os.path.join(folder(), *relative.split("/"))


def write(relative: str, data: bytes) -> str:
    """Replaces one file under the home atomically, readable by this user alone. Raises UsageError."""
    import tempfile  # noqa: PLC0415 - slow to import, and `run` seldom writes

    target = path(relative)
    try:
        _make_private(relative)
        descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(target), prefix=".new-")  # created 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise UsageError(
            "home.write",
            f"{target} cannot be written: {error.strerror}.",
            f"Free some space or mend its permissions, or set {VARIABLE} to another folder.",
        ) from None
    return target


def require_room() -> None:
    """Raises UsageError where there is no room for what a new grant needs: before it is asked for, since a broker gives
    one only once.
    """
    write("room", bytes(_ROOM_BYTES))
    remove("room")


def read(relative: str) -> bytes | None:
    """One file under the home; None when there is none. Raises UsageError when it is there and cannot be read."""
    target = path(relative)
    try:
        with open(target, "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UsageError(
            "home.read", f"{target} cannot be read: {error.strerror}.", "Mend its owner and permissions."
        ) from None


def remove(relative: str) -> None:
    """Deletes one file under the home, if it is there. Raises UsageError."""
    target = path(relative)
    try:
        os.unlink(target)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError("home.write", f"{target} cannot be deleted: {error.strerror}.", "Mend its folder.") from None


def _make_private(relative: str) -> None:
    """Every folder from the home down to a file's own; what os.makedirs makes in between would be open to others."""
    parts = relative.split("/")
    for depth in range(len(parts)):
        place = os.path.join(folder(), *parts[:depth])
        os.makedirs(place, mode=0o700, exist_ok=True)
        if os.name == "posix" and os.stat(place).st_mode & 0o077:
            os.chmod(place, 0o700)


def _record(relative: str, kind: type[T]) -> T | None:
    data = read(relative)
    if data is None:
        return None
    try:
        return wire.decode(kind, wire.strict_json(data))
    except WireError as error:
        raise UsageError(
            "home.damaged",
            f"{path(relative)} is damaged: {error.message}",
            "Delete the file, then run `percall status` (a session) or `percall login URL` (a login).",
        ) from None


# --- Logins and sessions ----------------------------------------------------------------------------------------------


def logins(agent: str | None = None) -> tuple[Login, ...]:
    """The logins on this device, newest first; only those of `agent` when it is given.

    One that cannot be read is left out, so that its agent alone is stopped. Raises UsageError when it may be the one
    that is meant, since no other is there.
    """
    found, unread = _read_logins()
    kept = tuple(login for login in found if agent is None or login.agent == agent)
    if unread and not kept:
        raise unread[0]
    return kept


def damaged() -> tuple[UsageError, ...]:
    """What is wrong with each login, and each login's session, that cannot be read. Raises UsageError."""
    found, unread = _read_logins()
    for login in found:
        try:
            _session(login.grant)
        except UsageError as error:
            unread.append(error)
    return tuple(unread)


def _read_logins() -> tuple[list[Login], list[UsageError]]:
    """The logins, newest first, and what is wrong with those that cannot be read. Raises UsageError when their folder
    cannot.
    """
    try:
        names = sorted(name for name in os.listdir(path("logins")) if name.endswith(".json"))
    except FileNotFoundError:
        names = []
    except OSError as error:
        raise UsageError("home.read", f"{folder()} cannot be read: {error.strerror}.") from None
    found: list[Login] = []
    unread: list[UsageError] = []
    for name in names:
        try:
            record = _record(f"logins/{name}", Login)
        except UsageError as error:
            unread.append(error)
        else:
            found += [record] if record else []
    return sorted(found, key=lambda login: login.created_at, reverse=True), unread


def no_login(code: str, agent: str | None) -> UsageError:
    """That nobody has logged in here as this agent, and as which ones they have."""
    others = sorted({one.agent for one in _read_logins()[0]}) if agent else []
    whose = f" of agent {agent!r}" if agent else ""
    there = f" (of {', '.join(others)} there is)" if others else ""
    log_in = f"`percall login URL --invite CODE{f' --agent {word(agent)}' if agent else ''}`"
    next_step = f"Name one of those with --agent; or run {log_in}." if others else f"Run {log_in}."
    return UsageError(code, f"There is no login{whose} in {folder()}{there}.", next_step)


def login(grant: str) -> Login:
    """The login of one grant. Raises UsageError when there is none."""
    found = _record(record_path("logins", grant), Login)
    if found is None:
        raise UsageError("home.login", f"No login for grant {grant!r} in {folder()}.", _LOGIN)
    return found


def save_login(record: Login) -> None:
    """Keeps a login. Raises UsageError."""
    write(record_path("logins", record.grant), wire.dump(wire.encode(record)))


def session(grant: str) -> wire.Session | None:
    """What the broker last said about a grant; None when nothing is cached that can be read."""
    try:
        return _session(grant)
    except UsageError:  # `damaged` tells it, and what the broker says next takes its place
        return None


def _session(grant: str) -> wire.Session | None:
    return _record(record_path("sessions", grant), wire.Session)


def save_session(record: wire.Session) -> None:
    """Keeps what the broker says about a grant, for the next start. Raises UsageError."""
    write(record_path("sessions", record.grant), wire.dump(wire.encode(record)))


def forget_login(grant: str) -> None:
    """Deletes a login and its session, so that nothing starts from them any more. Raises UsageError."""
    for relative in (record_path("logins", grant), record_path("sessions", grant)):
        remove(relative)


def all_granted() -> list[Found]:
    """Every server that a login here covers, as far as it can be read; the newest login's first. Raises UsageError."""
    pairs = ((login, session(login.grant)) for login in _read_logins()[0])
    return [Found(login, cached, granted) for login, cached in pairs if cached for granted in cached.servers]


def find_server(name: str, agent: str | None, *, any_grant: bool = False) -> Found:
    """The login of `agent` (`default` when none is given) whose grant covers the server.

    A grant that is active comes before one that was suspended, revoked or has expired: the shim starts with the latter
    too, so that its refusals can say why. Of active grants, one that allows all that the others do is taken, whether it
    ends before them (as `percall request` makes them) or after; of several such, the one that ends last. Others that
    differ are for the person to tell apart, unless `any_grant` will do. Raises UsageError, naming what was found and
    where it looked.
    """
    wanted = agent or DEFAULT_AGENT
    here = all_granted()
    found = [item for item in here if (item.login.agent, item.granted.entry.name) == (wanted, name)]
    brokers = {item.login.broker for item in found}  # a grant that lapses hands its server's name to no other broker
    _require_readable(wanted, brokers)
    if not found:
        raise _unknown_server(name, wanted, here)
    usable = sorted((item for item in found if _usable(item.session)), key=_ends, reverse=True)
    if len(brokers) > 1:
        raise UsageError(
            "run.ambiguous",
            f"Agent {wanted!r} may use a server {name!r} at {' and at '.join(sorted(brokers))}.",
            "Log in to one of them under another agent: `percall login URL --invite CODE --agent NAME`; or end what is "
            "over: percall agent remove.",
        )
    covering = [item for item in usable if all(_covers(item, other) for other in usable)]
    if usable and not covering and not any_grant:
        raise UsageError(
            "run.ambiguous",
            f"Agent {wanted!r} has several grants for the server {name!r}: {' and '.join(map(_told, usable))}.",
            "Ask your administrator to revoke all but one: percall-broker grant revoke GRANT; then: percall status.",
        )
    return (covering or usable or found)[0]


def _covers(item: Found, other: Found) -> bool:
    """Whether it allows all that the other does."""
    pairs = zip(_allowed(item), _allowed(other), strict=True)
    return all(set(less) <= set(more) or _fit(less, more) for more, less in pairs)


def _fit(patterns: Iterable[str], wider: Sequence[str]) -> bool:
    """Whether what each pattern stands for, a wider one does too: to that one, its `*` is a character like others."""
    from percall.rpc.gate import matches  # noqa: PLC0415 - `re` is no start's to pay for but that of several grants

    return all(any(matches(one, pattern) for one in wider) for pattern in patterns)


def _ends(item: Found) -> float:
    return item.session.expires_at or float("inf")


def _allowed(item: Found) -> tuple[tuple[str, ...], ...]:
    return item.granted.tools, item.granted.prompts, item.granted.resources


def _told(item: Found) -> str:
    patterns = (*item.granted.tools, *item.granted.prompts, *item.granted.resources)
    return f"{item.login.grant} ({', '.join(patterns)})"


_LOGIN = "Run `percall login URL --invite CODE`; the broker's administrator makes the invite."


def may_run(found: Found) -> bool:
    """Whether grant and server could be used when the broker last spoke of them."""
    return _usable(found.session) and found.granted.refusal is None


def _usable(cached: wire.Session) -> bool:
    return cached.state == "active" and (not cached.expires_at or cached.expires_at > time.time())


def _require_readable(agent: str, brokers: set[str]) -> None:
    """Raises UsageError where what cannot be read here may be this agent's grant, at another broker than these."""
    found, unread = _read_logins()
    for login in found:
        if login.agent == agent and login.broker not in brokers:
            _session(login.grant)
    if unread and not brokers:
        raise unread[0]


def _unknown_server(name: str, agent: str, here: list[Found]) -> UsageError:
    place = folder()
    others = [item for item in here if item.granted.entry.name == name]
    if others:
        return _granted_to_others(name, agent, others)
    if not logins():
        return UsageError("run.no_login", f"No login in {place}.", f"{_LOGIN} Or set {VARIABLE} to the right folder.")
    mine = {item.granted.entry.name for item in here if item.login.agent == agent}
    theirs = {(item.granted.entry.name, item.login.agent) for item in here if item.login.agent != agent}
    servers = ", ".join([*sorted(mine), *(f"{server} of agent {other}" for server, other in sorted(theirs))])
    known = f"known there: {servers}" if servers else "no server is known there"
    return UsageError(
        "run.unknown_server",
        f"No server {name!r} for agent {agent!r} in {place} ({known}).",
        "Check the name; `percall status` asks the broker again. For a further server, ask your administrator.",
    )


def _granted_to_others(name: str, agent: str, others: list[Found]) -> UsageError:
    """Names the agents with which it would run; where there is none, why the newest grant does not."""
    message = f"Server {name!r} is not granted to agent {agent!r}"
    usable = sorted({item.login.agent for item in others if may_run(item)})
    if usable:
        flag = " or ".join(f"--agent {word(other)}" for other in usable)
        return UsageError("run.unknown_server", f"{message}.", f"Add {flag}.")
    refusal = others[0].session.refusal or others[0].granted.refusal
    why = refusal.message if refusal else "That grant has expired."
    return UsageError(
        "run.unknown_server",
        f"{message}, and was to agent {others[0].login.agent!r}: {why}",
        "Ask your administrator for another grant, then: percall status.",
    )


# --- Tools ------------------------------------------------------------------------------------------------------------


def seen_tools(grant: str, server: str) -> SeenTools:
    """What is known of a server's tools. Raises UsageError when the record is damaged."""
    return _record(_tools_name(grant, server), SeenTools) or SeenTools()


def save_seen_tools(grant: str, server: str, record: SeenTools) -> None:
    """Remembers what is known of a server's tools. Raises UsageError."""
    write(_tools_name(grant, server), wire.dump(wire.encode(record)))


# --- Trust ------------------------------------------------------------------------------------------------------------


_INTERCEPTING = frozenset({"preload", "proxy"})


def intercepted(entry: wire.ServerEntry) -> tuple[str, ...]:
    """The origins that a child takes the broker's answers for. Whoever adds one that it loads code from (a registry of
    packages, say) decides which code that is.
    """
    return entry.hosts if entry.delivery == "egress" and _INTERCEPTING.intersection(entry.ways) else ()


def is_trusted(record: Trust | None, entry: wire.ServerEntry) -> bool:
    """Whether all that decides which code an entry runs on this laptop is what was accepted; a remote one runs none."""
    if entry.delivery == "relay":
        return True
    if record is None or (record.hosts is not None and not set(intercepted(entry)) <= set(record.hosts)):
        return False
    accepted = (record.command, record.environment, record.pass_environment)
    return accepted == (entry.command, entry.environment, entry.pass_environment)


def accepts(broker: str, entry: wire.ServerEntry) -> bool:
    """Whether an entry's launch as it is now is accepted on this device. Raises UsageError."""
    return is_trusted(trust(broker, entry.name), entry)


def trust(broker: str, server: str) -> Trust | None:
    """The launch last accepted for a server. Raises UsageError when the record is damaged."""
    return _record(_trust_name(broker, server), Trust)


def save_trust(broker: str, entry: wire.ServerEntry, search_path: str, *, accepted_at: int = 0) -> Trust:
    """Accepts an entry's launch as it is now, with the PATH that its programs are looked up in. Raises UsageError."""
    record = Trust(
        broker=broker,
        server=entry.name,
        command=entry.command,
        environment=dict(entry.environment),
        pass_environment=entry.pass_environment,
        path=search_path,
        accepted_at=accepted_at or int(time.time()),
        hosts=intercepted(entry),
    )
    write(_trust_name(broker, entry.name), wire.dump(wire.encode(record)))
    return record


def require_trust(broker: str, entry: wire.ServerEntry) -> Trust:
    """The trust that lets this entry start. Raises UsageError when its launch was never accepted, or has changed."""
    record = trust(broker, entry.name)
    if record is None:
        raise UsageError(
            "trust.missing",
            f"Nobody has accepted the command of server {entry.name!r} on this device.",
            f"See it and accept it in a terminal: `percall trust {word(entry.name)}`.",
        )
    if not is_trusted(record, entry):
        raise UsageError(
            "trust.changed",
            f"The command of server {entry.name!r} has changed since it was accepted.",
            f"See the change and accept it in a terminal: `percall trust {word(entry.name)}`.",
        )
    if record.hosts is None:  # accepted by a version that did not record them: they are what they were at this start
        return save_trust(broker, entry, record.path, accepted_at=record.accepted_at)
    return record


def record_path(kind: str, grant: str, suffix: str = ".json") -> str:
    """A grant's file of one kind, under the home. Raises UsageError for an id that could leave its folder."""
    if not grant or not all(character.isalnum() or character in "-_" for character in grant):
        raise UsageError("home.grant", f"{grant!r} is no grant's id.")
    return f"{kind}/{grant}{suffix}"


def _tools_name(grant: str, server: str) -> str:
    return record_path("tools", grant, f"/{_as_file_name(server)}.json")


def _trust_name(broker: str, server: str) -> str:
    return f"trust/{_as_file_name(broker)}/{_as_file_name(server)}.json"


def _as_file_name(text: str) -> str:
    """Letters, digits, dash and underscore stand for themselves; everything else for its code, so that no two clash."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else f"%{ord(c):x}." for c in text)
