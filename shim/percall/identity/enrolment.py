"""`percall login`, step by step: a device introduces itself to a broker with an invite and is given a grant."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from percall import home, wire
from percall.errors import IdentityError, UsageError, WireError
from percall.home import Login
from percall.identity import SEED_BYTES, Identity, keyrings
from percall.identity.client import named_failures, open_http, refusal
from percall.proof import DeviceKey, make_enrolment_proof

if TYPE_CHECKING:
    from percall.identity.keyrings import Keyring

_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What came of a login. `trusted` and `changed` name servers: launches accepted as first seen, and those that
    differ from what was accepted earlier and wait for `percall trust`.
    """

    login: Login
    session: wire.Session
    reused_key: bool
    trusted: tuple[str, ...]
    changed: tuple[str, ...]


def enrol(*, url: str, invite: str, agent: str, device: str, ca_file: str, keyring: Keyring) -> Enrolment:
    """Spends an invite. Raises UsageError, IdentityError, BrokerUnreachable, BrokerRefusal or WireError."""
    # 1. Everything that can fail here is tried before the invite is spent.
    broker = broker_url(url)
    authority = _keep_authority(ca_file)
    keyring.prepare()
    # 2. The key is made here, or was, for the same agent and broker.
    earlier = _earlier_seed(broker, agent)
    seed = earlier or secrets.token_bytes(SEED_BYTES)
    # 3. Only its public half leaves, with a proof that we hold the other.
    key = DeviceKey(seed)
    message = wire.Enrolment(invite=invite, device_key=key.public_jwk(), agent=agent, device=device)
    enrolled = _introduce(broker, authority, message, key)
    session = enrolled.session
    # 4. The secrets go into the keyring; what is not secret into PERCALL_HOME.
    keyring.store(session.grant, Identity(seed, enrolled.token))
    login = Login(
        grant=session.grant,
        broker=broker,
        agent=session.agent,
        person=session.person,
        device=session.device,
        keyring=keyring.choice,
        created_at=time.time_ns(),
        backend=keyring.backend,
        ca_file=authority,
        passphrase_file=keyring.passphrase_file,
    )
    home.save_session(session)
    home.save_login(login)
    # 5. Launches that this device sees for the first time are accepted, with the PATH of this terminal.
    trusted, changed = _trust_first_seen(broker, session)
    return Enrolment(login, session, earlier is not None, trusted, changed)


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
    if parts.scheme not in _PORTS or not host or parts.query or parts.fragment or parts.username is not None:
        raise wrong
    if not text.isascii() or any(character.isspace() or character == "\\" for character in text):
        raise wrong
    if parts.scheme == "http" and not _is_loopback(host):
        raise UsageError(
            "login.plain_http",
            f"{text} would send the grant in the clear.",
            "Use https; plain http is for a broker on this machine (127.0.0.1, localhost).",
        )
    return _one_form(parts, host, port)


def _one_form(parts: SplitResult, host: str, port: int | None) -> str:
    shown = f"[{host}]" if ":" in host else host
    suffix = "" if port in {None, _PORTS[parts.scheme]} else f":{port}"
    return f"{parts.scheme}://{shown}{suffix}{parts.path.rstrip('/')}"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _keep_authority(ca_file: str) -> str:
    """A copy of the authority's certificates under PERCALL_HOME, since the original may move. Empty for none."""
    if not ca_file:
        return ""
    open_http(ca_file).close()  # proves that it holds certificates
    try:
        data = Path(ca_file).read_bytes()
    except OSError as error:
        raise UsageError("login.ca_file", f"{ca_file} cannot be read: {error.strerror}.") from None
    return home.write(f"authorities/{hashlib.sha256(data).hexdigest()[:32]}.pem", data)


def _earlier_seed(broker: str, agent: str) -> bytes | None:
    """The device key of an earlier login of this agent at this broker; None where there is none to be had."""
    for login in home.logins(agent):
        if login.broker == broker:
            try:
                return keyrings.load(login).seed
            except IdentityError:
                return None  # the item is gone, or its keyring is no longer usable: the new grant gets a new key
    return None


def _introduce(broker: str, authority: str, message: wire.Enrolment, key: DeviceKey) -> wire.Enrolled:
    url, body = broker + wire.PATH_ENROL, wire.dump(wire.encode(message))
    headers = {
        "dpop": make_enrolment_proof(key, url, body),
        "content-type": "application/json",
        wire.HEADER_VERSION: str(wire.VERSION),
    }
    with open_http(authority) as http, named_failures(broker):
        answer = http.post(url, content=body, headers=headers)
    if not answer.is_success:
        raise refusal(broker, answer)
    try:
        enrolled = wire.decode(wire.Enrolled, wire.strict_json(answer.content))
        home.record_path("logins", enrolled.session.grant)
    except (WireError, UsageError) as error:
        raise WireError("broker.stranger", f"{broker} answered in no form that we know: {error.message}") from None
    return enrolled


def _trust_first_seen(broker: str, session: wire.Session) -> tuple[tuple[str, ...], tuple[str, ...]]:
    trusted: list[str] = []
    changed: list[str] = []
    for granted in session.servers:
        entry = granted.entry
        known = home.trust(broker, entry.name)
        if known is None:
            home.save_trust(broker, entry, os.environ.get("PATH", os.defpath))
            trusted.append(entry.name)
        elif not home.is_trusted(known, entry):
            changed.append(entry.name)
    return tuple(trusted), tuple(changed)
