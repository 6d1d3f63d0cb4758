"""Which proxy the environment names for a broker: read once, at login, and recorded then.

HTTPS_PROXY (or ALL_PROXY) and NO_PROXY, in either case of letters, as curl and others read them.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment

import httpx

from percall.errors import UsageError
from percall.proxy import Proxy

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address
    from urllib.parse import SplitResult

_MOST_PASSWORD_CHARACTERS = 256
_LOCAL = "localhost"


def of_environment(broker: str) -> tuple[str, str]:
    """The proxy's URL without its password, and the password; both empty where the broker is reached directly.

    Raises UsageError for a proxy that we cannot use.
    """
    parts = urlsplit(broker)
    named = getproxies_environment()
    url = named.get("https") or named.get("all") or ""
    if parts.scheme != "https" or not url or _is_direct(parts, named):
        return "", ""
    url = url if "://" in url else f"http://{url}"
    credentials, at, place = url.partition("://")[2].rpartition("@")
    user, _, password = credentials.partition(":")
    recorded = f"{url.partition('://')[0]}://{user}{at if user else ''}{place.rstrip('/')}"
    Proxy(recorded)
    password = unquote(password)
    if len(password) > _MOST_PASSWORD_CHARACTERS:
        raise UsageError("proxy.password", f"A proxy's password has {_MOST_PASSWORD_CHARACTERS} characters at most.")
    return recorded, password


def for_httpx(recorded: str, password: str) -> httpx.Proxy | None:
    """The proxy as the commands' HTTP client wants it; None for none."""
    if not recorded:
        return None
    proxy = Proxy(recorded)
    return httpx.Proxy(str(proxy), auth=(unquote(proxy.user), password) if proxy.user else None)


def _is_direct(parts: SplitResult, named: dict[str, str]) -> bool:
    """Whether NO_PROXY names the broker; this machine itself needs no naming."""
    host = (parts.hostname or "").lower()
    try:
        address = ip_address(host)
    except ValueError:
        address = None
    if host == _LOCAL or (address is not None and address.is_loopback):
        return True
    for text in named.get("no", "").lower().split(","):
        name = text.strip().removeprefix("*").removeprefix(".")
        if name in {host, parts.netloc.lower()} or text.strip() == "*" or (name and host.endswith(f".{name}")):
            return True
        if address is not None and _holds(name, address):
            return True
    return False


def _holds(network: str, address: IPv4Address | IPv6Address) -> bool:
    try:
        return address in ip_network(network, strict=False)
    except ValueError:
        return False  # a name, or nothing
