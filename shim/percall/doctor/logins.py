"""The logins of this device: whether keyring and broker answer, whether the clocks agree, and what is granted."""

from __future__ import annotations

import ssl
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from percall import home, identity, wire
from percall.doctor.finding import ok, problem, warning
from percall.errors import BrokerRefusal, PercallError, UsageError, word
from percall.identity import keyrings, proxies
from percall.identity.client import SignedClient, named_failures, open_http
from percall.identity.standings import is_outlasted, is_replaced, next_step

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from percall.doctor.finding import Finding
    from percall.home import Login
    from percall.identity import Identity
    from percall.identity.standings import Granted

_UNEASY_APART_SECONDS = 20
_SOON_SECONDS = 7 * 86400
_UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"))


def findings(logins: Sequence[Login], servers: Collection[str] = ()) -> Iterator[Finding]:
    """What each login shows; a broker is looked at once, however many logins there are. Where servers are named, only
    what the grants for those show.
    """
    damaged = home.damaged()
    for damage in damaged:
        yield problem("login", "", damage)
    if not logins and not damaged:
        error = UsageError(
            "home.login", f"There is no login in {home.folder()}.", "Run `percall login URL --invite CODE`."
        )
        yield problem("login", "", error)
    seen: set[tuple[str, str, str]] = set()
    granted: list[Granted] = []
    for login in logins:
        held, found = _keyring(login)
        yield found
        reach = (login.broker, login.ca_file, login.proxy)
        if reach not in seen:
            seen.add(reach)
            yield from _broker(login, held)
        if held is None:
            continue
        try:
            with SignedClient.with_identity(login, held) as client:
                granted.append((login, client.session()))
            home.save_session(granted[-1][1])
        except PercallError as error:
            yield problem("grant", _about_grant(login), error)
    for login, session in granted:
        yield from _grant(login, session, granted, servers)


def _about(login: Login) -> str:
    return f"agent {login.agent}"


def _about_grant(login: Login) -> str:
    """Which of an agent's grants; one that has ended can be told from those that stand."""
    return f"{_about(login)}, {login.grant}"


def _keyring(login: Login) -> tuple[Identity | None, Finding]:
    """By the helper that `percall run` starts, which never asks at a terminal."""
    about = _about(login)
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
            open_http(broker, login.ca_file, proxy) as http,
            named_failures(broker, proxy),
            http.stream("GET", broker + wire.PATH_HEALTH) as answer,
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
    if expires - time.time() > _SOON_SECONDS:
        return ok("certificate", broker, f"It is trusted, and holds for {_left(expires)}.")
    return warning(
        "certificate",
        broker,
        f"The broker's certificate ends in {_left(expires)}.",
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
    if abs(apart) > wire.MAX_SKEW_SECONDS:
        error = UsageError("clock.apart", message, "Set the one that is wrong right; they may differ by a minute.")
        return problem("clock", broker, error)
    if abs(apart) > _UNEASY_APART_SECONDS:
        return warning("clock", broker, message, "Let both follow a time server.", code="clock.apart")
    return ok("clock", broker, "This machine's clock and the broker's agree.")


def _left(until: float) -> str:
    """How long until then, in the largest unit of which there is one at least."""
    seconds = max(0, int(until - time.time()))
    size, unit = next((one for one in _UNITS if seconds >= one[0]), _UNITS[-1])
    return f"{seconds // size} {unit}" + ("" if seconds // size == 1 else "s")


def _grant(
    login: Login, session: wire.Session, granted: Sequence[Granted], servers: Collection[str]
) -> Iterator[Finding]:
    about = _about_grant(login)
    shown = [one for one in session.servers if not servers or one.entry.name in servers]
    if session.servers and not shown:
        return
    if session.refusal is not None:
        refusal = session.refusal
        if is_replaced(login, session, granted):
            yield ok("grant", about, f"{refusal.message} Another one goes on.")
        else:
            yield problem(
                "grant", about, BrokerRefusal(refusal.code, refusal.message, next_step(login, session, granted))
            )
        return
    covered = f"It covers {', '.join(one.entry.name for one in session.servers) or 'no server'}."
    ends_soon = 0 < session.expires_at < time.time() + _SOON_SECONDS
    ending = [one.entry.name for one in shown if not is_outlasted(login, session, granted, one.entry.name)]
    if ends_soon and (ending or not session.servers):
        yield warning(
            "grant",
            about,
            f"The grant for {', '.join(ending) or 'no server'} ends in {_left(session.expires_at)}.",
            "Ask your administrator for another one.",
            code="grant.ends",
        )
    elif ends_soon:
        yield ok("grant", about, f"{covered} It ends in {_left(session.expires_at)}; another one goes on.")
    else:
        yield ok("grant", about, "It administers." if session.administrator else covered)
    for one in shown:
        yield from _server(login, one)


def _server(login: Login, granted: wire.GrantedServer) -> Iterator[Finding]:
    """What stands in the way of a server that is granted, whether or not a client has it."""
    about, name = _about(login), granted.entry.name
    refusal = granted.refusal or granted.key_refusal
    if refusal is not None:
        yield warning("grant", f"{about}, {name}", refusal.message, refusal.next_step, code=refusal.code)
    try:
        if not home.accepts(login.broker, granted.entry):
            yield warning(
                "trust",
                f"{about}, {name}",
                "Its command is not accepted on this device (any more).",
                f"See it and accept it: percall trust {word(name)}",
                code="trust.changed",
            )
    except PercallError as error:
        yield problem("trust", name, error)
