"""Origins: `https://api.example.com`, `https://*.example.com`, and which requests they cover.

The broker decides with rules of its own; here an origin only says which way a request goes.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from percall.errors import WireError
from percall.http1 import DEFAULT_PORTS, is_loopback, is_port

# A stranger's text is tried on it, so no part of it can be read in two ways: else a few letters take hours.
_HOST = re.compile(r"[a-z0-9_][a-z0-9_-]{0,62}(?:\.[a-z0-9_][a-z0-9_-]{0,62})*\.?|\[[0-9a-f:.]{2,45}\]")
_MAX_HOST_LENGTH = 253


class Origin(NamedTuple):
    """A scheme, a host in lower case (an IPv6 address in brackets), and a port."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """The host, with the port unless it is the scheme's own."""
        return self.host if self.port == DEFAULT_PORTS[self.scheme] else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        """As in an entry."""
        return f"{self.scheme}://{self.authority}"

    @property
    def is_loopback(self) -> bool:
        """Whether the host names this machine by itself."""
        return is_loopback(self.host.strip("[]"))


def parse_authority(scheme: str, text: str) -> Origin:
    """The origin that `host` or `host:port` means under a scheme. Raises WireError (`egress.host`)."""
    host, colon, digits = text.lower(), "", ""
    if not host.endswith("]"):
        before, colon, digits = host.rpartition(":")
        host = before if colon else host
    port = DEFAULT_PORTS[scheme]
    if colon:
        port = int(digits) if is_port(digits) else 0
    if not port or len(host) > _MAX_HOST_LENGTH or _HOST.fullmatch(host) is None:
        raise WireError("egress.host", f"{text[:80]!r} is not a host.")
    return Origin(scheme, host, port)


def parse_origin(text: str) -> Origin:
    """An origin from its text; a bare host means https. Raises WireError (`egress.host`)."""
    scheme, separator, authority = text.partition("://")
    if not separator:
        scheme, authority = "https", text
    if scheme not in DEFAULT_PORTS:
        raise WireError("egress.host", f"{text[:80]!r} is not an origin.")
    return parse_authority(scheme, authority.rstrip("/"))


class Listed:
    """The origins that an entry lists. `*.` stands for one label or more."""

    def __init__(self, hosts: tuple[str, ...]) -> None:
        self.exact: set[Origin] = set()
        self.suffixes: set[Origin] = set()
        for text in hosts:
            scheme, _, authority = text.rpartition("://")
            if authority.startswith("*."):
                self.suffixes.add(parse_origin(f"{scheme or 'https'}://{authority[2:]}"))
            else:
                self.exact.add(parse_origin(text))

    def covers(self, origin: Origin) -> bool:
        """Whether requests to this origin go to the broker."""
        return origin in self.exact or any(
            origin.scheme == suffix.scheme and origin.port == suffix.port and origin.host.endswith(f".{suffix.host}")
            for suffix in self.suffixes
        )

    def texts(self) -> list[str]:
        """The listed origins in their one normal form."""
        wild = [f"{suffix.scheme}://*.{suffix.authority}" for suffix in self.suffixes]
        return sorted([*map(str, self.exact), *wild])

    def certificate_names(self) -> list[str]:
        """The names that a certificate for the https ones must carry."""
        exact = [origin.host for origin in self.exact if origin.scheme == "https"]
        return sorted({*exact, *(f"*.{suffix.host}" for suffix in self.suffixes if suffix.scheme == "https")})
