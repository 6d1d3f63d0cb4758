"""OpenID providers on loopback: a certified one from npm, one of our own that misbehaves, and somebody's browser."""

from __future__ import annotations

import base64
import html
import http.client
import json
import re
import subprocess
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

from harness import npm
from harness.loopback import Listening, Quiet
from harness.processes import SERVERS, Line

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PACKAGE = "oidc-provider@9.13.3"
CLIENT_ID = "percall"
CLIENT_SECRET = "a secret of the tests, which is long enough"


def settings(issuer: str, groups: dict[str, str], days: int = 7) -> dict[str, str]:
    """The broker's settings for a provider, for its environment."""
    return {
        "oidc_issuer": issuer,
        "oidc_client_id": CLIENT_ID,
        "oidc_client_secret": CLIENT_SECRET,
        "oidc_groups": json.dumps(groups),
        "oidc_days": str(days),
    }


@dataclass
class CertifiedProvider:
    """npm's oidc-provider, as a process. `accounts`: by login, the claims `email` and `groups`."""

    folder: Path
    accounts: dict[str, dict[str, Any]]
    url: str = ""

    def __enter__(self) -> Self:
        self.save()
        folder = npm.packages([PACKAGE], "openid").parent
        command = [npm.NODE, str(SERVERS / "openid_provider.mjs"), str(folder), str(self.folder / "accounts.json")]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.stdout = Line(self.process.stdout)
        self.url = self.stdout.until(b"listening on ").decode().split("listening on ", 1)[1].strip()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(10)
        self.stdout.join(5)

    def save(self) -> None:
        """What the provider knows of its accounts from now on."""
        (self.folder / "accounts.json").write_text(json.dumps(self.accounts))


class Browser:
    """Somebody who signs in as `login` on the provider's pages, and agrees to what they ask."""

    def __init__(self, login: str) -> None:
        self._login = login
        self._cookies: dict[str, str] = {}

    def code_for(self, url: str, redirect_uri: str) -> str:
        """Signs in, and stops where the provider would send the browser back: that URL, with the code."""
        return self._through(url, redirect_uri)

    def visit(self, url: str) -> str:
        """Signs in, and goes back to where the provider sends it; the text of the last page."""
        return self._through(url, "")

    def _through(self, url: str, stop: str) -> str:
        form: dict[str, str] | None = None
        for _ in range(20):
            status, location, text = self._get(url, form)
            form = None
            if stop and location.startswith(stop):
                return location
            if location:
                url = urljoin(url, location)
                continue
            action = re.search(r'<form[^>]* action="([^"]+)"', text)
            if status != 200 or not action:
                return text
            url = urljoin(url, html.unescape(action[1]))
            prompt = re.search(r'name="prompt" value="([^"]+)"', text)
            form = {"prompt": prompt[1] if prompt else "", "login": self._login, "password": "any"}
        raise AssertionError("the sign-in goes round in circles")

    def _get(self, url: str, form: dict[str, str] | None) -> tuple[int, str, str]:
        parts = urlsplit(url)
        assert parts.hostname is not None
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        if form is None:
            connection.request("GET", path, headers=headers)
        else:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            connection.request("POST", path, urlencode(form), headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        for cookie in answer.headers.get_all("Set-Cookie") or []:
            name, _, value = cookie.partition(";")[0].partition("=")
            self._cookies[name] = value
        connection.close()
        return answer.status, answer.headers.get("Location", ""), text


@dataclass
class HostileProvider(Listening):
    """Signs whoever asks in at once. `claims` and `sign` may make any token of what an honest one would be."""

    claims: Callable[[dict[str, Any]], dict[str, Any]] = lambda honest: honest
    sign: Callable[[HostileProvider, dict[str, Any]], str] = lambda self, claims: self.signed(claims)
    described: dict[str, Any] = field(default_factory=dict)
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "one", "use": "sig"}))
    asked: list[str] = field(default_factory=list)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        return type("Handler", (_Handler,), {"provider": self})

    def signed(self, claims: dict[str, Any], algorithm: str = "RS256") -> str:
        """By the key that is published."""
        return jwt.encode({"alg": algorithm, "kid": "one"}, claims, self.key, algorithms=[algorithm])

    def macked(self, claims: dict[str, Any]) -> str:
        """By the client's secret, which is no provider's signature."""
        return jwt.encode(
            {"alg": "HS256", "kid": "one"}, claims, OctKey.import_key(CLIENT_SECRET), algorithms=["HS256"]
        )

    def unsigned(self, claims: dict[str, Any]) -> str:
        """By nobody."""
        parts = [json.dumps({"alg": "none", "kid": "one"}), json.dumps(claims)]
        return ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts) + "."

    def by_a_stranger(self, claims: dict[str, Any]) -> str:
        """By another key of the same name."""
        other = RSAKey.generate_key(2048, {"kid": "one"})
        return jwt.encode({"alg": "RS256", "kid": "one"}, claims, other, algorithms=["RS256"])

    def token(self, nonce: str) -> str:
        now = int(time.time())
        honest = {"iss": self.url, "sub": "s-1", "aud": CLIENT_ID, "iat": now, "exp": now + 300, "nonce": nonce}
        honest |= {"email": "mallory@example.com", "email_verified": True, "groups": ["engineering"]}
        return self.sign(self, self.claims(honest))


class _Handler(Quiet, BaseHTTPRequestHandler):
    provider: HostileProvider

    def do_GET(self) -> None:
        provider = self.provider
        provider.asked.append(self.path)
        if self.path.startswith("/.well-known"):
            endpoints = {"authorization_endpoint": "/auth", "token_endpoint": "/token", "jwks_uri": "/jwks"}
            described = {name: provider.url + path for name, path in endpoints.items()}
            self._answer({"issuer": provider.url, **described, **provider.described})
        elif self.path == "/jwks":
            self._answer({"keys": [provider.key.as_dict(private=False)]})
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.provider.asked.append(self.path)
        # The code is the nonce: a test hands in whichever it likes.
        token = self.provider.token(form["code"][0])
        self._answer({"access_token": "x", "token_type": "Bearer", "id_token": token})

    def _answer(self, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
