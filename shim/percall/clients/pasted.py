"""The key itself, in what was pasted: a variable's value, an option's, a header's, without its scheme; a URL's."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from percall.clients import literal_secrets

if TYPE_CHECKING:
    from percall.clients.servers import Secret

_SCHEMES = frozenset({"bearer", "token"})


def key_in(secret: Secret) -> str:
    """The key, empty where what was pasted holds no key of its own (as user and password in one).

    SECRET, never log.
    """
    value = secret.value.strip()
    if secret.kind in {"env", "setting"}:
        return _without_scheme(value) or value  # as what passes a whole header on is given it
    if secret.kind == "header":
        return _without_scheme(value)
    if secret.kind == "url":
        return _in_url(value)
    name, equals, rest = value.partition("=")
    if equals and name == secret.name:
        return rest
    header, colon, rest = value.partition(":")
    if colon and header.replace("-", "").isalnum() and not rest.startswith("//"):
        return _without_scheme(rest.strip())
    return "" if "://" in value else value


def _without_scheme(value: str) -> str:
    scheme, _, rest = value.partition(" ")
    if not rest:
        return value
    return rest.strip() if scheme.lower() in _SCHEMES else ""


def _in_url(url: str) -> str:
    try:
        query = urlsplit(url).query
    except ValueError:  # half an IPv6 address
        return ""
    found = {text for name, text in parse_qsl(query) if literal_secrets.is_secret(name, text)}
    return found.pop() if len(found) == 1 else ""
