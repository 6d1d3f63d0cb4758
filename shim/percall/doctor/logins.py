"""The logins of this device: whether keyring and broker answer, whether the clocks agree, and what is granted."""

from __future__ import annotations

import ssl
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from percall import home, identity
from percall.doctor.finding import ok, problem, warning
from percall.errors import BrokerRefusal, PercallError, UsageError
from percall.identity import keyrings, proxies
from percall.identity.client import SignedClient, named_failures, open_http

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from percall import wire
    from percall.doctor.finding import Finding
    from percall.home import Login
    from percall.identity import Identity

_PATH_ALIVE = "/healthz"
_MOST_APART_SECONDS = 60
"""What a broker forgives; its proofs of possession are refused beyond it."""
_UNEASY_APART_SECONDS = 20
_SOON_SECONDS = 7 * 86400


def findings(logins: Sequence[Login]) -> Iterator[Finding]:
    """What each login shows; a broker is looked at once, however many logins there are."""
    if not logins:
        error = UsageError(
            "home.login", f"There is no login in {home.folder()}.", "Run `percall login URL --invite CODE`."
        )
        yield problem("login", "", error)
    seen: set[tuple[str, str, str]] = set()
    for login in logins:
        about = f"agent {login.agent}"
        held, found = _keyring(login, about)
        yield found
        reach = (login.broker, login.ca_file, login.proxy)
        if reach not in seen:
            seen.add(reach)
            yield from _broker(login, held)
        if held is not None:
            yield from _grant(login, held, about)


def _keyring(login: Login, about: str) -> tuple[Identity | None, Finding]:
    """By the helper that `percall run` starts, which never asks at a terminal."""
    began = time.monotonic()
    try:
        answer, _ = identity.start_reader(login.grant).communicate()
        held = identity.read_answer(answer)
    except PercallError as error:
        return None, problem("keyring", about, error)
    took = f"{time.monotonic() - began:.1f} s"
    return held, ok("keyring", about, f"{keyrings.named(login)} gave key and grant in {took}.")


def _broker(login: Login, held: Identity | None) -> Iterator[Finding]:
    broker = login.broker
    yield from _proxy(login)
    try:
        proxy = proxies.for_httpx(login.proxy, held.proxy_password if held else "")
        began = time.time()
        with (
            open_http(login.ca_file, proxy) as http,
            named_failures(broker, proxy),
            http.stream("GET", broker + _PATH_ALIVE) as answer,
        ):
            answer.read()
            took, date = time.time() - began, answer.headers.get("date", "")
            expires = _certificate_ends(answer.extensions.get("network_stream"))
    except PercallError as error:
        yield problem("broker", broker, error)
        return
    yield ok("broker", broker, f"It answers, in {took * 1000:.0f} ms.")
    if expires is not None:
        yield _certificate(broker, expires)
    if date:
        yield _clock(broker, date, began + took / 2)


def _proxy(login: Login) -> Iterator[Finding]:
    """Whether the way that was recorded at login is the one that this terminal would take."""
    try:
        named, _ = proxies.of_environment(login.broker)
    except PercallError as error:
        yield problem("proxy", login.broker, error)
        return
    if login.proxy:
        yield ok("proxy", login.broker, f"It is reached by way of {login.proxy}.")
    if named and named != login.proxy:
        yield warning(
            "proxy",
            login.broker,
            f"This terminal's environment names the proxy {named}; at login it was {login.proxy or 'none'}.",
            f"If the proxy has changed, log in again: percall login {login.broker}",
            code="proxy.changed",
        )


def _certificate_ends(stream: Any) -> float | None:
    """When the broker's certificate ends, in seconds since the epoch; None over plain HTTP."""
    secured = stream.get_extra_info("ssl_object") if stream is not None else None
    found = secured.getpeercert() if secured is not None else None
    return float(ssl.cert_time_to_seconds(found["notAfter"])) if found else None


def _certificate(broker: str, expires: float) -> Finding:
    days = int((expires - time.time()) // 86400)
    if expires - time.time() > _SOON_SECONDS:
        return ok("certificate", broker, f"It is trusted, and holds for {days} days.")
    return warning(
        "certificate",
        broker,
        f"The broker's certificate ends in {days} days.",
        "Tell your administrator.",
        code="certificate.ends",
    )


def _clock(broker: str, date: str, now: float) -> Finding:
    try:
        theirs = parsedate_to_datetime(date).timestamp() + 0.5  # its seconds are whole
    except ValueError:
        return ok("clock", broker, "The broker does not say what time it is.")
    apart = now - theirs
    side = "ahead of" if apart > 0 else "behind"
    message = f"This machine's clock is {abs(apart):.0f} s {side} the broker's."
    if abs(apart) > _MOST_APART_SECONDS:
        error = UsageError("clock.apart", message, "Set the one that is wrong right; they may differ by a minute.")
        return problem("clock", broker, error)
    if abs(apart) > _UNEASY_APART_SECONDS:
        return warning("clock", broker, message, "Let both follow a time server.", code="clock.apart")
    return ok("clock", broker, "This machine's clock and the broker's agree.")


def _grant(login: Login, held: Identity, about: str) -> Iterator[Finding]:
    try:
        with SignedClient.with_identity(login, held) as client:
            session = client.session()
        home.save_session(session)
    except PercallError as error:
        yield problem("grant", about, error)
        return
    if session.refusal is not None:
        refusal = session.refusal
        yield problem("grant", about, BrokerRefusal(refusal.code, refusal.message, refusal.next_step))
        return
    names = ", ".join(granted.entry.name for granted in session.servers) or "no server"
    if session.expires_at and session.expires_at - time.time() < _SOON_SECONDS:
        days = max(0, int((session.expires_at - time.time()) // 86400))
        yield warning(
            "grant",
            about,
            f"The grant for {names} ends in {days} days.",
            "Ask your administrator for another one.",
            code="grant.ends",
        )
    else:
        yield ok("grant", about, "It administers." if session.administrator else f"It covers {names}.")
    for granted in session.servers:
        yield from _server(login, granted, about)


def _server(login: Login, granted: wire.GrantedServer, about: str) -> Iterator[Finding]:
    """What stands in the way of a server that is granted, whether or not a client has it."""
    name = granted.entry.name
    refusal = granted.refusal or granted.key_refusal
    if refusal is not None:
        yield warning("grant", f"{about}, {name}", refusal.message, refusal.next_step, code=refusal.code)
    try:
        if not home.is_trusted(home.trust(login.broker, name), granted.entry):
            yield warning(
                "trust",
                f"{about}, {name}",
                "Its command is not accepted on this device (any more).",
                f"See it and accept it: percall trust {name}",
                code="trust.changed",
            )
    except PercallError as error:
        yield problem("trust", name, error)
