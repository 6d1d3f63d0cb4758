"""Key-encryption keys in OpenBao's or Vault's transit engine: it wraps and unwraps, and its keys never leave it.

A data key is bound to its row by transit's associated data. The token comes from a file that an agent may renew.
"""

from __future__ import annotations

import base64
import re
import ssl
import stat
from typing import TYPE_CHECKING, Any

import httpx

from percall_broker.crypto.sodium import SealBrokenError
from percall_broker.model.errors import InvalidInput, Unavailable
from percall_broker.model.rules import parse_origin
from percall_broker.vault.sources.protocol import TRANSIT, Sealed, Wrapped

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT_SECONDS = 5.0
_CIPHERTEXT = re.compile(r"vault:v(\d{1,9}):[A-Za-z0-9+/=]+")
_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_BAD_REQUEST, _FORBIDDEN, _NOT_FOUND = 400, 403, 404
_BROKEN = ("message authentication failed", "invalid ciphertext", "unable to decrypt")


class TransitKeys:
    """One transit key, in versions."""

    def __init__(
        self,
        address: str,
        token_file: Path,
        *,
        key: str = "percall",
        mount: str = "transit",
        namespace: str = "",
        ca_file: Path | None = None,
    ) -> None:
        """`address` is an origin, https unless on loopback. Raises InvalidInput."""
        if not _SEGMENT.fullmatch(key) or not all(map(_SEGMENT.fullmatch, mount.split("/"))):
            raise InvalidInput("keys.transit", "The transit key or its mount has a name that cannot be.")
        self._origin = parse_origin(address.rstrip("/"))
        self._path = f"/v1/{mount}"
        self._key = key
        self._token_file = token_file
        self._token = ""
        self._http = httpx.AsyncClient(
            verify=_context(ca_file),
            trust_env=False,
            follow_redirects=False,
            timeout=TIMEOUT_SECONDS,
            headers={"x-vault-namespace": namespace} if namespace else {},
        )

    async def newest(self) -> str:
        """The key's newest version."""
        answer = await self._ask("GET", f"keys/{self._key}")
        return self._name(_member(answer, "latest_version", int))

    async def wrap(self, data_key: bytes, context: bytes) -> Wrapped:
        """The data key, encrypted by the newest version."""
        form = {"plaintext": _base64(data_key), "associated_data": _base64(context)}
        ciphertext = _member(await self._ask("POST", f"encrypt/{self._key}", form), "ciphertext", str)
        found = _CIPHERTEXT.fullmatch(ciphertext)
        if not found:
            raise _strange()
        return Wrapped(self._name(int(found[1])), ciphertext.encode())

    async def unwrap(self, wrapped: Wrapped, context: bytes) -> bytes:
        """The data key. Raises SealBrokenError, Sealed, Unavailable."""
        key = wrapped.key.removeprefix(TRANSIT).rpartition(":")[0]
        if not _SEGMENT.fullmatch(key):
            raise Unavailable("keys.name", f"{wrapped.key!r} is not the name of a key.")
        form = {"ciphertext": wrapped.ciphertext.decode("ascii", "replace"), "associated_data": _base64(context)}
        try:
            plaintext = _member(await self._ask("POST", f"decrypt/{key}", form), "plaintext", str)
            return base64.b64decode(plaintext, validate=True)
        except ValueError:
            raise _strange() from None

    async def rotate(self) -> str:
        """A new version of the key; its name."""
        await self._ask("POST", f"keys/{self._key}/rotate", {})
        return await self.newest()

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def _ask(self, method: str, path: str, form: dict[str, str] | None = None) -> Any:
        answer = await self._send(method, path, form)
        if answer.status_code == _FORBIDDEN:
            self._token = ""  # it may have been renewed meanwhile
            answer = await self._send(method, path, form)
        status = answer.status_code
        if status == _FORBIDDEN:
            raise Sealed(
                "keys.forbidden", "The key source does not accept the token.", f"Renew it in {self._token_file}."
            )
        if status == _NOT_FOUND:
            raise Unavailable(
                "keys.missing",
                f"The key source has no key {self._key!r} at {self._path}.",
                "Make it there, or name it.",
            )
        if status == _BAD_REQUEST:
            if any(words in answer.text for words in _BROKEN):
                raise SealBrokenError
            raise Unavailable("keys.refused", "The key source refuses what it was asked.", "See its own log.")
        if not answer.is_success:
            raise Sealed(
                "keys.source_down", f"The key source is sealed or failed (it answered {status}).", "Unseal it."
            )
        try:
            return answer.json() if answer.content else {}
        except ValueError:
            raise _strange() from None

    async def _send(self, method: str, path: str, form: dict[str, str] | None) -> httpx.Response:
        try:
            self._token = self._token or _token_in(self._token_file)
        except (OSError, ValueError):
            raise Sealed("keys.token", f"No token can be read from {self._token_file}.", "Put it there.") from None
        try:
            return await self._http.request(
                method, f"{self._origin}{self._path}/{path}", json=form, headers={"x-vault-token": self._token}
            )
        # A connection that is reset in the instant it is made raises what nobody below translates: uvloop has taken its
        # socket away when anyio asks for its peer, an AttributeError. Whatever comes from there, the source is down: a
        # fault of the broker's would end it at its start, and be said to an agent.
        except (httpx.HTTPError, httpx.InvalidURL, OSError, AttributeError, RuntimeError) as error:
            raise Sealed(
                "keys.source_down",
                f"The key source at {self._origin} does not answer ({type(error).__name__}).",
                "Is it running, and reached from here?",
            ) from None

    def _name(self, version: int) -> str:
        return f"{TRANSIT}{self._key}:v{version}"


def _token_in(file: Path) -> str:
    """Raises OSError, ValueError; Sealed where anybody on this machine may read it. A group may: an agent that renews
    it, as a user of its own, hands it over so.
    """
    if stat.S_IMODE(file.stat().st_mode) & 0o007:
        raise Sealed("keys.token", f"Others may read {file}.", f"Run: chmod o= {file}, and renew the token.")
    return file.read_text(encoding="ascii").strip()


def _context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError):
        raise InvalidInput("keys.transit", f"transit_ca_file: {ca_file} holds no certificates.") from None


def _member(answer: Any, name: str, kind: type) -> Any:
    data = answer.get("data") if isinstance(answer, dict) else None
    value = data.get(name) if isinstance(data, dict) else None
    if type(value) is not kind:
        raise _strange()
    return value


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _strange() -> Unavailable:
    return Unavailable("keys.stranger", "What answers as the key source is none.", "Check its address and mount.")
