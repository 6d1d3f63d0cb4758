"""The provider's endpoints: discovery (OpenID Connect Discovery 1.0), keys, and the exchange of a code for a token.

The broker is the client that holds the secret; the laptop holds the code's verifier (RFC 7636). Neither redirects nor
the environment's proxies are followed, nothing larger than it should be is read, and nothing waited for too long.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc6749.parameters import prepare_token_request
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, import_key

from percall import wire
from percall.errors import WireError
from percall_broker.model.errors import Unauthenticated, UpstreamFailed
from percall_broker.model.rules import is_loopback_name
from percall_broker.oidc import id_token

if TYPE_CHECKING:
    import ssl

    from pydantic import SecretStr

    from percall_broker.oidc.id_token import Account

KEPT_SECONDS = 3600.0
"""How long discovery and keys are believed."""
_FRESH_SECONDS = 30.0
_TIMEOUT_SECONDS = 10.0
_MOST_BYTES = 1024 * 1024
_OK, _NO = 200, frozenset({400, 401})
_FORM = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
_PLAIN = {"Accept-Encoding": "identity"}
_ERROR = re.compile(r"[a-z_]{1,64}")


@dataclass(frozen=True, slots=True)
class Client:
    """What this broker is at the provider, and which claims of its tokens name a person and their groups."""

    issuer: str
    client_id: str
    client_secret: SecretStr
    scope: str
    name_claim: str
    groups_claim: str


@dataclass(frozen=True, slots=True)
class _Found:
    """The provider's own description and keys, and when they were fetched (monotonic)."""

    authorization_endpoint: str
    token_endpoint: str
    keys: KeySet
    at: float


class Provider:
    """The provider, as far as signing in goes. Its methods raise UpstreamFailed when it answers as it should not."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._found: _Found | None = None

    async def authorization_endpoint(self) -> str:
        """Where a person's browser goes."""
        return (await self._discovered()).authorization_endpoint

    async def account(self, code: str, verifier: str, nonce: str, redirect_uri: str, now: float) -> Account:
        """Whose code it is, once. Raises Unauthenticated when the provider, or its token, says no."""
        found = await self._discovered()
        token = await self._exchange(found.token_endpoint, code, verifier, redirect_uri)
        if id_token.is_signed_by_unknown_key(token, found.keys):
            found = await self._discovered(fresh=True)
        expected = id_token.Expected(
            self._client.issuer, self._client.client_id, nonce, self._client.name_claim, self._client.groups_claim
        )
        return id_token.verify(token, found.keys, expected, now)

    async def _discovered(self, *, fresh: bool = False) -> _Found:
        found, now = self._found, time.monotonic()
        if found is not None and now - found.at < (_FRESH_SECONDS if fresh else KEPT_SECONDS):
            return found
        issuer = self._client.issuer
        described = await _json(issuer.rstrip("/") + "/.well-known/openid-configuration")
        if described.get("issuer") != issuer:
            raise _failed("issuer", f"{issuer} calls itself by another name.")
        keys = await _json(_endpoint(described, "jwks_uri", issuer))
        self._found = _Found(
            _endpoint(described, "authorization_endpoint", issuer),
            _endpoint(described, "token_endpoint", issuer),
            _signing_keys(keys.get("keys"), issuer),
            now,
        )
        return self._found

    async def _exchange(self, endpoint: str, code: str, verifier: str, redirect_uri: str) -> str:
        asked = prepare_token_request(
            "authorization_code", code=code, redirect_uri=redirect_uri, code_verifier=verifier
        )
        secret = self._client.client_secret.get_secret_value()
        signing = ClientAuth(self._client.client_id, secret, "client_secret_basic")
        _, headers, body = signing.prepare(  # type: ignore[no-untyped-call]  # in its stubs alone
            "POST", endpoint, dict(_FORM), asked
        )
        status, answer = await _answered("POST", endpoint, headers, body)
        if status in _NO or "error" in answer:
            raise Unauthenticated(
                "sign_in.code",
                f"The provider does not take this sign-in ({_reason(answer)}).",
                "Sign in again: percall login URL.",
            )
        if status != _OK:
            raise _failed("unreachable", f"{endpoint} does not answer as it should.")
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise _failed("token", f"{self._client.issuer} gave no ID token.")
        return token


async def _json(url: str) -> dict[str, Any]:
    status, value = await _answered("GET", url, {}, "")
    if status != _OK:
        raise _failed("unreachable", f"{url} does not answer as it should.")
    return value


async def _answered(method: str, url: str, headers: dict[str, str], body: str) -> tuple[int, dict[str, Any]]:
    """The status, and the JSON object: empty where there is none and the status says enough."""
    try:
        async with (
            asyncio.timeout(_TIMEOUT_SECONDS),  # over all: a provider that drips is one that hangs
            httpx.AsyncClient(
                trust_env=False, follow_redirects=False, timeout=_TIMEOUT_SECONDS, verify=_trusted()
            ) as http,
            http.stream(method, url, headers={**headers, **_PLAIN}, content=body.encode() or None) as answer,
        ):
            data = await _bounded(answer, url)
    # So wide since a connection that is reset as it is made raises AttributeError: see vault/sources/transit.py.
    except (httpx.HTTPError, httpx.InvalidURL, OSError, AttributeError, RuntimeError):
        raise _failed("unreachable", f"{url} does not answer as it should.") from None
    try:
        value = wire.strict_json(data)
    except WireError:
        value = None
    if isinstance(value, dict):
        return answer.status_code, value
    if answer.status_code == _OK:
        raise _failed("form", f"{url} answers with no JSON object.")
    return answer.status_code, {}


@cache
def _trusted() -> ssl.SSLContext:
    """Whose certificates are believed: read once, which takes the time of a hundred calls."""
    return httpx.create_ssl_context(trust_env=False)


async def _bounded(answer: httpx.Response, url: str) -> bytes:
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise _failed("form", f"{url} answers in a form that nobody asked for.")  # a little of it may be very much
    pieces, size = [], 0
    async for piece in answer.aiter_raw():
        size += len(piece)
        if size > _MOST_BYTES:
            raise _failed("size", f"{url} answers with too much.")
        pieces.append(piece)
    return b"".join(pieces)


def _reason(answer: dict[str, Any]) -> str:
    """The provider's own code, where it is one (RFC 6749, section 5.2)."""
    code = answer.get("error")
    return code if isinstance(code, str) and _ERROR.fullmatch(code) else "no reason given"


def _signing_keys(keys: Any, issuer: str) -> KeySet:
    """The public keys that may have signed a token. A kind that is not known here signs nothing here."""
    found = []
    for key in keys if isinstance(keys, list) else []:
        if isinstance(key, dict) and key.get("kty") in {"RSA", "EC", "OKP"} and key.get("use", "sig") == "sig":
            with contextlib.suppress(JoseError, ValueError, KeyError, TypeError):
                found.append(import_key(key))
    if not found:
        raise _failed("keys", f"{issuer} has no key that signs.")
    return KeySet(found)


def _endpoint(described: dict[str, Any], name: str, issuer: str) -> str:
    """One of the provider's endpoints. As its issuer: https, or http on loopback for one that is there itself."""
    url = described.get(name)
    parts = urlsplit(url) if isinstance(url, str) else None
    is_local = is_loopback_name(urlsplit(issuer).hostname or "")
    if parts is None or not (parts.scheme == "https" or (is_local and is_loopback_name(parts.hostname or ""))):
        raise _failed("endpoint", f"The {name} of {issuer} is no https URL.")
    return str(url)


def _failed(code: str, message: str) -> UpstreamFailed:
    return UpstreamFailed(f"sign_in.{code}", message, "Try again; if it stays so, tell your administrator.")
