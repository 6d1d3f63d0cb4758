"""Signing in at the organisation's provider: the person's browser there, and a listener on loopback for what it says.

Authorization code with PKCE (RFC 7636) and a loopback redirect (RFC 8252, section 7.3). The verifier, the state and the
nonce are made here for one sign-in; the provider's code is worthless without them.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sys
import threading
import time
import webbrowser
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlencode, urlsplit

from percall import wire
from percall.errors import BrokerRefusal, IdentityError, UsageError
from percall.http1 import is_loopback
from percall.identity import enrolment
from percall.proof import base64url

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_SECONDS = 300.0
PATH = "/callback"
_SECRET_BYTES = 32
_PAGE = (
    "<!doctype html><html lang=en><meta charset=utf-8><title>Percall</title>"
    "<body style='font:16px system-ui;margin:15vh auto;max-width:30rem'><h1>{title}</h1><p>{text}</p></body></html>"
)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the provider's redirect said: a code, or why there is none."""

    code: str = ""
    error: str = ""


def sign_in(broker: str, ca_file: str, *, enrol: bool) -> wire.SignedIn | None:
    """Signs the person in where the broker has a provider for it; None where it has none. `enrol`: ask for an invite.

    Raises UsageError, IdentityError, BrokerUnreachable, BrokerRefusal or WireError.
    """
    reach = enrolment.Reach.of(broker, ca_file)
    try:
        offer = enrolment.ask(wire.SignInOffer, broker, reach, wire.PATH_SIGN_IN)
    except BrokerRefusal as error:
        if error.code in {wire.CODE_NO_SIGN_IN, wire.CODE_PATH}:  # the latter: a broker from before there were sign-ins
            return None
        raise
    answer = through_browser(offer, _tell, enrol=enrol)
    return enrolment.ask(wire.SignedIn, broker, reach, wire.PATH_SIGN_IN, answer)


def through_browser(
    offer: wire.SignInOffer, tell: Callable[[str], None], *, enrol: bool, patience: float = PATIENCE_SECONDS
) -> wire.SignIn:
    """Has the person sign in, in their browser; `tell` is given what to say to them.

    Raises UsageError for a provider that no browser should be sent to, IdentityError when the person did not sign in.
    """
    _check_endpoint(offer.authorization_endpoint)
    verifier, state, nonce = (base64url(secrets.token_bytes(_SECRET_BYTES)) for _ in range(3))
    with _Listener(state, offer.issuer) as listener:
        redirect_uri = f"http://127.0.0.1:{listener.server_port}{PATH}"
        url = _authorization_url(offer, verifier, state, nonce, redirect_uri)
        tell(f"Sign in with your browser: {url}")
        # A text browser keeps this call until it ends, and it ends only when it was answered here.
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
        answer = listener.wait(patience)
    if answer.error:
        raise IdentityError(
            "sign_in.refused", f"The provider did not sign you in ({answer.error}).", "Run `percall login` again."
        )
    return wire.SignIn(answer.code, verifier, nonce, redirect_uri, enrol=enrol)


def _authorization_url(offer: wire.SignInOffer, verifier: str, state: str, nonce: str, redirect_uri: str) -> str:
    query = {
        "response_type": "code",
        "client_id": offer.client_id,
        "redirect_uri": redirect_uri,
        "scope": offer.scope,
        "state": state,
        "nonce": nonce,
        "code_challenge": base64url(hashlib.sha256(verifier.encode()).digest()),
        "code_challenge_method": "S256",
    }
    join = "&" if urlsplit(offer.authorization_endpoint).query else "?"
    return offer.authorization_endpoint + join + urlencode(query)


def _check_endpoint(url: str) -> None:
    """A browser is sent to a web page and nowhere else: the URL is the broker's word, and may reach a shell."""
    parts = urlsplit(url)
    is_web = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
    plain = all("!" <= character <= "~" and character not in "\"'`\\<>^{|}$;" for character in url)
    if not is_web or not parts.hostname or not plain or parts.username is not None:
        raise UsageError("sign_in.endpoint", "The broker's sign-in page is no https URL.", "Tell your administrator.")


class _Listener(HTTPServer):
    """Where the provider sends the browser back to, on loopback; it waits for the answer that is this sign-in's."""

    def __init__(self, state: str, issuer: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.state = state
        self.issuer = issuer
        self.answer: _Answer | None = None

    def wait(self, patience: float) -> _Answer:
        """The answer. Raises IdentityError after so many seconds without one."""
        end = time.monotonic() + patience
        while self.answer is None:
            self.timeout = end - time.monotonic()
            if self.timeout <= 0:
                raise IdentityError(
                    "sign_in.timeout", "Nobody signed in within five minutes.", "Run `percall login` again."
                )
            self.handle_request()
        return self.answer


class _Handler(BaseHTTPRequestHandler):
    """Takes the one redirect that carries this sign-in's state; anything else changes nothing."""

    timeout = 5
    server: _Listener

    def do_GET(self) -> None:
        """One request."""
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items() if len(values) == 1}
        is_ours = hmac.compare_digest(query.get("state", "").encode(), self.server.state.encode())
        if parts.path != PATH or not is_ours:
            self._say(404, "Nothing here", "This page belongs to a sign-in that is over.")
            return
        if "iss" in query and query["iss"] != self.server.issuer:  # RFC 9207
            answer = _Answer(error="the answer came from another issuer")
        elif query.get("code"):
            answer = _Answer(code=query["code"])
        else:
            answer = _Answer(error=_plain(query.get("error_description") or query.get("error") or "no code"))
        self.server.answer = answer
        if answer.code:  # which the broker may refuse: no group that it knows, another account
            self._say(200, "Go back to your terminal", "It says how the sign-in went. You can close this tab.")
        else:
            self._say(400, "You are not signed in", "The terminal says why.")

    def _say(self, status: int, title: str, text: str) -> None:
        body = _PAGE.format(title=title, text=text).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing: the request line carries a code."""


def _plain(text: str) -> str:
    return "".join(character for character in text[:200] if character.isprintable())


def _tell(text: str) -> None:
    """Says it to the person, beside whatever the command prints for scripts."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
