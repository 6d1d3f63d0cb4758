"""The ways in: what the child's environment holds so that its API requests reach the listener.

`base-url` is a variable of the server's own, `preload` a file for Node, `proxy` the proxy variables and a certificate
authority that only the child trusts. No way carries a key: the child holds a placeholder.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from percall.egress.origins import parse_origin

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from percall.egress.origins import Listed, Origin

PRELOAD, PROXY = "preload", "proxy"
PRELOAD_FILE = os.path.join(os.path.dirname(__file__), "preload.cjs")  # noqa: PTH118, PTH120 - pathlib costs start-up time
_TEMPLATE = re.compile(r"\{key\}|\{proxy\}|\{listener:([^{}]+)\}")


def path_form(secret: str, origin: Origin) -> str:
    """How an origin is written in the listener's paths."""
    return f"/{secret}/{'http:' if origin.scheme == 'http' else ''}{origin.authority}"


def rendered(environment: Mapping[str, str], key: str, listener: Callable[[Origin], str], proxy: str) -> dict[str, str]:
    """The entry's environment: `{key}` is the placeholder, `{listener:ORIGIN}` the base URL that stands for ORIGIN,
    `{proxy}` the proxy's URL for a server with a variable of its own for it.

    Raises WireError for an ORIGIN that is none.
    """

    def value(found: re.Match[str]) -> str:
        if found[1] is not None:
            return listener(parse_origin(found[1]))
        return proxy if found[0] == "{proxy}" else key

    return {name: _TEMPLATE.sub(value, text) for name, text in environment.items()}


def base_url_origins(environment: Mapping[str, str]) -> set[Origin]:
    """The origins that have a base URL in the entry's environment. Raises WireError."""
    return {parse_origin(found[1]) for text in environment.values() for found in _TEMPLATE.finditer(text) if found[1]}


def preload_environment(base: Mapping[str, str], listener: str, listed: Listed) -> dict[str, str]:
    """Node loads our file first, beside what NODE_OPTIONS already asks for."""
    quoted = PRELOAD_FILE.replace("\\", "\\\\").replace('"', '\\"')
    options = f'{base.get("NODE_OPTIONS", "")} --require="{quoted}"'.strip()
    return {
        "NODE_OPTIONS": options,
        "PERCALL_PRELOAD_LISTENER": listener,
        "PERCALL_PRELOAD_HOSTS": " ".join(listed.texts()),
    }


def proxy_environment(base: Mapping[str, str], proxy: str, port: int, listed: Listed) -> dict[str, str]:
    """The proxy variables in both cases of letters. Loopback goes direct, but for origins there that are listed."""
    loopback = {"127.0.0.1", "localhost", "::1"} - {origin.host.strip("[]") for origin in listed.exact}
    given = base.get("NO_PROXY") or base.get("no_proxy") or ""
    # Someone's NO_PROXY must not take a listed host past the listener.
    kept = [name for name in map(str.strip, given.split(",")) if name and not _concerns(name, listed)]
    direct = ",".join(dict.fromkeys([*sorted(loopback), f"127.0.0.1:{port}", *kept]))
    variables = {"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy, "ALL_PROXY": proxy, "NO_PROXY": direct}
    return {**variables, **{name.lower(): value for name, value in variables.items()}, "NODE_USE_ENV_PROXY": "1"}


def _concerns(name: str, listed: Listed) -> bool:
    suffix = name.partition(":")[0].lower().lstrip("*").lstrip(".")
    return not suffix or any(
        f".{origin.host}".endswith(f".{suffix}") or suffix.endswith(f".{origin.host}")
        for origin in (*listed.exact, *listed.suffixes)
    )
