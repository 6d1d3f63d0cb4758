"""`percall login`, step by step: a device introduces itself to a broker with an invite and is given a grant."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import SplitResult, urlsplit

from percall import home, wire
from percall.errors import BrokerRefusal, IdentityError, PercallError, UsageError, WireError
from percall.home import DEFAULT_AGENT, Login
from percall.http1 import DEFAULT_PORTS, is_loopback
from percall.identity import SEED_BYTES, Identity, keyrings, presence, proxies
from percall.identity.client import named_failures, open_http, refusal, trusting
from percall.proof import DeviceKey, digest, make_enrolment_proof

if TYPE_CHECKING:
    import httpx

    from percall.identity.keyrings import Keyring
    from percall.identity.presence import PresenceSigner

T = TypeVar("T")

_OF_ANOTHER_LIFE = frozenset({wire.CODE_DEVICE_REVOKED, wire.CODE_DEVICE_OTHER})
"""Refusals of the key that this agent had here before: another one may enrol with the same invite."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What came of a login. `trusted` and `changed` name servers, once `accepted` has looked at them: launches accepted
    as first seen, and those that differ from what was accepted earlier and wait for `percall trust`.
    """

    login: Login
    session: wire.Session
    reused_key: bool
    trusted: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reach:
    """How the broker is reached: the authority's certificates (empty: the system's), and the proxy on the way."""

    ca_file: str
    proxy: httpx.Proxy | None

    @classmethod
    def of(cls, broker: str, ca_file: str) -> Self:
        """As it is now, from this terminal. Raises UsageError."""
        return cls(ca_file, proxies.for_httpx(*proxies.of_environment(broker)))


def enrol(*, url: str, invite: str, agent: str | None, device: str, ca_file: str, keyring: Keyring) -> Enrolment:
    """Spends an invite, for `agent`; without one for the invite's, or for `default` where it names none.

    Raises UsageError, IdentityError, BrokerUnreachable, BrokerRefusal or WireError.
    """
    # 1. Everything that can fail here is tried before the invite is spent.
    broker = broker_url(url)
    authority = _keep_authority(ca_file)
    proxy, proxy_password = proxies.of_environment(broker)
    reach = Reach(authority, proxies.for_httpx(proxy, proxy_password))
    keyring.prepare()
    home.require_room()
    # 2. The invite says whose it is, and which agent's.
    invitation = _invitation(broker, reach, invite)
    wanted = agent or (invitation and invitation.agent) or DEFAULT_AGENT
    # 3. The key is made here, or was, for the same agent and broker.
    earlier = _earlier_seed(broker, wanted)
    seed = earlier or new_seed()
    # 4. The person shows, at a terminal, that it is they; or sets the passphrase that will show it from now on.
    known, new = _presence(invitation)
    # 5. Only the key's public half leaves, with a proof that we hold the other.
    message = wire.Enrolment(
        invite=invite,
        device_key=DeviceKey(seed).public_jwk(),
        agent=wanted,
        device=device,
        device_id=_device_id(broker),
        presence=new.key if new else None,
    )
    try:
        enrolled = _introduce(broker, reach, message, DeviceKey(seed), known)
    except BrokerRefusal as error:
        if earlier is None or error.code not in _OF_ANOTHER_LIFE:
            raise
        earlier, seed = None, new_seed()
        message = dataclasses.replace(message, device_key=DeviceKey(seed).public_jwk(), device_id="")
        enrolled = _introduce(broker, reach, message, DeviceKey(seed), known)
    if enrolled.session.agent != wanted:
        raise WireError("broker.stranger", f"{broker} answered for another agent: {enrolled.session.agent!r}.")
    # 6. The secrets go into the keyring; what is not secret into PERCALL_HOME.
    login = Login(
        grant=enrolled.session.grant,
        broker=broker,
        agent=enrolled.session.agent,
        person=enrolled.session.person,
        device=enrolled.session.device,
        keyring=keyring.choice,
        created_at=time.time_ns(),
        backend=keyring.backend,
        ca_file=authority,
        passphrase_file=keyring.passphrase_file,
        proxy=proxy,
    )
    return keep(
        login, enrolled, Identity(seed, enrolled.token, proxy_password), keyring, reused_key=earlier is not None
    )


def keep(
    login: Login, enrolled: wire.Enrolled, secrets_of_it: Identity, keyring: Keyring, *, reused_key: bool
) -> Enrolment:
    """Keeps a grant that has come: secrets in the keyring, the rest under PERCALL_HOME. That accepts no launch.

    Raises IdentityError or UsageError; WireError for a grant that is another broker's here.
    """
    session = enrolled.session
    if any(one.grant == session.grant and one.broker != login.broker for one in home.logins()):
        raise WireError("broker.stranger", f"{login.broker} named a grant of another broker: {session.grant}.")
    keyring.store(session.grant, secrets_of_it)
    home.save_session(session)
    home.save_login(login)
    return Enrolment(login, session, reused_key)


def accepted(done: Enrolment) -> Enrolment:
    """The same, with the launches accepted that this device sees for the first time, and the PATH of this terminal: for
    whoever shows it there and then. Raises UsageError.
    """
    trusted: list[str] = []
    changed: list[str] = []
    for granted in done.session.servers:
        entry = granted.entry
        known = home.trust(done.login.broker, entry.name)
        if known is None:
            home.save_trust(done.login.broker, entry, os.environ.get("PATH", os.defpath))
            trusted.append(entry.name)
        elif not home.is_trusted(known, entry):
            changed.append(entry.name)
    return dataclasses.replace(done, trusted=tuple(trusted), changed=tuple(changed))


def new_seed() -> bytes:
    """A new device key's."""
    return secrets.token_bytes(SEED_BYTES)


def broker_url(text: str) -> str:
    """A broker's public URL in its one form. Raises UsageError; plain http is for loopback alone."""
    wrong = UsageError(
        "login.url",
        f"{text!r} is not the URL of a broker.",
        "Give its public URL, such as https://percall.example.com.",
    )
    try:
        parts = urlsplit(text)
        port, host = parts.port, parts.hostname or ""
    except ValueError:
        raise wrong from None
    if parts.scheme not in DEFAULT_PORTS or not host or parts.query or parts.fragment or parts.username is not None:
        raise wrong
    if not text.isascii() or any(character.isspace() or character == "\\" for character in text):
        raise wrong
    if parts.scheme == "http" and not is_loopback(host):
        raise UsageError(
            "login.plain_http",
            f"{text} would send the grant in the clear.",
            "Use https; plain http is for a broker on this machine (127.0.0.1, localhost).",
        )
    return _one_form(parts, host, port)


def _one_form(parts: SplitResult, host: str, port: int | None) -> str:
    shown = f"[{host}]" if ":" in host else host
    suffix = "" if port in {None, DEFAULT_PORTS[parts.scheme]} else f":{port}"
    return f"{parts.scheme}://{shown}{suffix}{parts.path.rstrip('/')}"


def _keep_authority(ca_file: str) -> str:
    """A copy of the authority's certificates under PERCALL_HOME, since the original may move. Empty for none."""
    if not ca_file:
        return ""
    trusting(ca_file)  # proves that it holds certificates
    try:
        data = Path(ca_file).read_bytes()
    except OSError as error:
        raise UsageError("login.ca_file", f"{ca_file} cannot be read: {error.strerror}.") from None
    return home.write(f"authorities/{hashlib.sha256(data).hexdigest()[:32]}.pem", data)


def _earlier_seed(broker: str, agent: str) -> bytes | None:
    """The device key of an earlier login of this agent at this broker; None where there is none to be had."""
    for login in home.logins():
        if (login.broker, login.agent) == (broker, agent):
            try:
                return keyrings.load(login).seed
            except IdentityError:
                return None  # the item is gone, or its keyring is no longer usable: the new grant gets a new key
    return None


def _device_id(broker: str) -> str:
    """Which of the person's machines the broker calls this one; empty where it does not know it yet."""
    for login in home.logins():
        if login.broker == broker:
            cached = home.session(login.grant)
            if cached is not None and cached.device_id:
                return cached.device_id
    return ""


def _invitation(broker: str, reach: Reach, invite: str) -> wire.Invitation | None:
    """What an invite is for; None where the broker cannot say. Raises what the broker says of the invite."""
    try:
        return ask(wire.Invitation, broker, reach, wire.PATH_INVITATION, wire.InviteCode(invite))
    except BrokerRefusal as error:
        if error.code == wire.CODE_PATH:  # a broker from before there was presence
            return None
        raise


def _presence(invitation: wire.Invitation | None) -> tuple[PresenceSigner | None, PresenceSigner | None]:
    """The presence key that signs the enrolment, and the one that it sets: at most one of them. Raises IdentityError.

    Without a terminal nobody is asked; the broker knows whether it can do without.
    """
    if invitation is None or not presence.has_terminal():
        return None, None
    if invitation.stretch is not None:
        prompt = f"This is a further device or agent of {invitation.person}. Your Percall passphrase: "
        return presence.from_terminal(invitation.stretch, prompt), None
    if not invitation.may_set_presence:
        return None, None
    if invitation.administrator:
        return None, presence.new_at_terminal("New passphrase, asked for whenever you change something: ")
    prompt = "New passphrase, asked for whenever you change what is yours (leave empty for none): "
    return None, presence.new_at_terminal(prompt, may_skip=True)


def _introduce(
    broker: str, reach: Reach, message: wire.Enrolment, key: DeviceKey, known: PresenceSigner | None
) -> wire.Enrolled:
    url, body = broker + wire.PATH_ENROL, wire.dump(wire.encode(message))
    jti, proof = make_enrolment_proof(key, url, body)
    headers = {"dpop": proof}
    if known is not None:
        headers[wire.HEADER_PRESENCE] = known.sign(wire.presence_text("POST", url, digest(body), jti))
    enrolled = _read(wire.Enrolled, broker, _send(broker, reach, wire.PATH_ENROL, message, headers))
    try:
        home.record_path("logins", enrolled.session.grant)
    except UsageError as error:
        raise _stranger(broker, error) from None
    return enrolled


def ask(kind: type[T], broker: str, reach: Reach, path: str, message: object = None) -> T:
    """What a broker answers to somebody that it need not know: a GET, or a POST of a message.

    Raises BrokerUnreachable, BrokerRefusal or WireError.
    """
    return _read(kind, broker, _send(broker, reach, path, message, {}))


def has_login(broker: str) -> bool:
    """Whether a device key of this machine is known to a broker, as far as this machine knows."""
    return any(login.broker == broker for login in home.logins())


def _send(broker: str, reach: Reach, path: str, message: object, headers: dict[str, str]) -> bytes:
    common = {"content-type": "application/json", wire.HEADER_VERSION: str(wire.VERSION)}
    body = b"" if message is None else wire.dump(wire.encode(message))
    with open_http(broker, reach.ca_file, reach.proxy) as http, named_failures(broker, reach.proxy):
        method = "GET" if message is None else "POST"
        answer = http.request(method, broker + path, content=body, headers={**common, **headers})
    if not answer.is_success:
        raise refusal(broker, answer)
    return answer.content


def _read(kind: type[T], broker: str, content: bytes) -> T:
    try:
        return wire.decode(kind, wire.strict_json(content))
    except WireError as error:
        raise _stranger(broker, error) from None


def _stranger(broker: str, error: PercallError) -> WireError:
    return WireError("broker.stranger", f"{broker} answered in no form that we know: {error.message}")
