"""Request rules: which API requests of the child may carry the key. Pure, and strict about what a URL is.

A URL is taken apart once, here, and forwarded as it was read. Whatever two parsers could read differently (dot
segments, encoded slashes, a backslash, credentials, a host that is not ASCII) is refused before any rule is asked.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import unquote

from percall.rpc import gate
from percall_broker.model.errors import InvalidInput
from percall_broker.model.records import Decision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from percall_broker.model.entry import Entry, RequestRule, ToolRule

MAX_URL_LENGTH = 32 * 1024

_DEFAULT_PORTS = {"https": 443, "http": 80}
_METHOD = re.compile(r"[A-Z][A-Z0-9_-]{0,31}")
_NEVER_FORWARDED = frozenset({"CONNECT", "TRACE"})  # a tunnel past the rules; an echo of the key
_URL = re.compile(r"(https?)://([^/?#]+)([^?#]*)(?:\?([^#]*))?")
_VISIBLE = re.compile(r"[!-~]+")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_AUTHORITY = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]@]+)(?::([0-9]{1,5}))?")
_BAD_ESCAPE = re.compile(r"%(?![0-9a-fA-F]{2})")
# An encoded dot, slash or backslash is one to some servers and none to others; controls (%00) end strings for some.
_AMBIGUOUS_ESCAPE = re.compile(r"%(?:2e|2f|5c|7f|[01][0-9a-f])", re.IGNORECASE)
_ESCAPED_SLASH = re.compile(r"%2f", re.IGNORECASE)
# The second reading of servers that decode twice.
_DOUBLE_ESCAPE = re.compile(r"%25(?:2e|2f|5c|25|7f|[01][0-9a-f])", re.IGNORECASE)
# `..;x` is a dot segment to servers that know path parameters.
_DOT_SEGMENT = re.compile(r"/\.{1,2}(?:;[^/]*)?(?=/|$)")


@dataclass(frozen=True, slots=True)
class Target:
    """A URL, taken apart. `host` is lower case, an IPv6 address without brackets; `path` and `query` are as they came.

    `query` is None where the URL has no question mark.
    """

    scheme: str
    host: str
    port: int
    path: str
    query: str | None = None

    @property
    def authority(self) -> str:
        """The host, and the port unless it is the scheme's own: what a Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """The origin, in its one normal form."""
        return f"{self.scheme}://{self.authority}"

    @property
    def path_and_query(self) -> str:
        """What stands in the request line."""
        return self.path if self.query is None else f"{self.path}?{self.query}"

    def __str__(self) -> str:
        """The whole URL."""
        return f"{self.origin}{self.path_and_query}"


def parse_url(url: str, *, escaped_slashes: bool = False) -> Target:
    """An absolute http or https URL. Raises InvalidInput (`request.url`), which says what is ambiguous about it.

    `escaped_slashes`: to this API a `%2F` is a character of a segment, as in GitLab's `/projects/group%2Fproject`.
    """
    if len(url) > MAX_URL_LENGTH:
        raise _refused(f"it is longer than {MAX_URL_LENGTH} characters")
    if not _VISIBLE.fullmatch(url):
        raise _refused("it holds characters other than visible ASCII")
    if "\\" in url:
        raise _refused("it holds a backslash")
    if "#" in url:
        raise _refused("it holds a fragment")
    parts = _URL.fullmatch(url)
    if parts is None:
        raise _refused("it is not an absolute http or https URL")
    scheme, authority, path, query = parts.groups()
    host, port = _parse_authority(scheme, authority)
    _check_path(path, escaped_slashes=escaped_slashes)
    return Target(scheme, host, port, path or "/", query)


def _parse_authority(scheme: str, authority: str) -> tuple[str, int]:
    if "@" in authority:
        raise _refused("it holds credentials")
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        raise _refused("its host or port is malformed")
    host, port_text = parts.groups()
    port = _DEFAULT_PORTS[scheme] if port_text is None else int(port_text)
    if not 0 < port < 65536:  # noqa: PLR2004 - the ports there are
        raise _refused("its port is out of range")
    if host.startswith("["):
        try:
            return str(ipaddress.IPv6Address(host[1:-1])), port
        except ValueError:
            raise _refused("its host is not an IPv6 address") from None
    host = host.lower()
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in host.split(".")):  # noqa: PLR2004 - RFC 1035
        raise _refused("its host is not a name or an address")
    return host, port


def _check_path(path: str, *, escaped_slashes: bool) -> None:
    if escaped_slashes:
        path = _ESCAPED_SLASH.sub("/", path)  # whoever reads it as a slash after all must find no dot segment either
    if _BAD_ESCAPE.search(path):
        raise _refused("its path holds a broken escape")
    if _AMBIGUOUS_ESCAPE.search(path) or _DOUBLE_ESCAPE.search(path):
        raise _refused("its path holds an escaped dot, slash, backslash or control character")
    if _DOT_SEGMENT.search(path):
        raise _refused("its path holds a dot segment")


def _refused(reason: str) -> InvalidInput:
    return InvalidInput("request.url", f"The request's URL is refused: {reason}.")


def parse_origin(text: str) -> str:
    """An origin of an entry in its normal form; a bare host means https, and `*.` may stand before a host's suffix.

    Raises InvalidInput. http is for loopback alone.
    """
    url = text if "://" in text else f"https://{text}"
    scheme, _, authority = url.partition("://")
    wildcard = authority.startswith("*.")
    try:
        target = parse_url(f"{scheme}://{authority.removeprefix('*.')}")
    except InvalidInput as error:
        raise InvalidInput("entry.origin", f"{text!r} is not an origin. {error.message}") from None
    if target.path != "/" or target.query is not None or authority.endswith("/"):
        raise InvalidInput("entry.origin", f"{text!r} is not an origin: it has a path.")
    if target.scheme == "http" and not is_loopback_name(target.host):
        raise InvalidInput("entry.origin", f"{text!r}: http is for loopback alone.", "Write https.")
    if wildcard and ("." not in target.host or is_address(target.host)):
        raise InvalidInput("entry.origin", f"{text!r}: a wildcard needs a suffix of two labels.")
    return f"{target.scheme}://*.{target.authority}" if wildcard else target.origin


def is_address(host: str) -> bool:
    """Whether a host is an IP address rather than a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback_address(text: str) -> bool:
    """Whether an address is loopback itself; one that maps it is not, though Python from 3.13 on calls it so."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return address.is_loopback and getattr(address, "ipv4_mapped", None) is None


def is_loopback_name(host: str) -> bool:
    """Whether a host names loopback by itself, without asking a resolver."""
    return host == "localhost" or is_loopback_address(host)


def loopback_origins(entry: Entry) -> frozenset[str]:
    """The places on the broker's own machine to which an entry sends requests, stand-ins among them."""
    places = [*entry.hosts, *entry.connect.values(), *([entry.url] if entry.url else [])]
    targets = [parse_url(place.replace("*.", "")) for place in places]
    return frozenset(target.origin for target in targets if is_loopback_name(target.host))


def origin_matches(pattern: str, target: Target) -> bool:
    """Whether an entry's origin (in normal form) covers a target. `*.` stands for one label or more, never for none."""
    scheme, _, authority = pattern.partition("://")
    if not authority.startswith("*."):
        return pattern == target.origin
    return scheme == target.scheme and target.authority.endswith(authority[1:]) and not is_address(target.host)


@lru_cache(maxsize=4096)
def _path_parts(glob: str) -> tuple[str, ...]:
    """A path's glob in parts: text, `**`, `*`, and `/*` for a `*` that is a whole segment."""
    parts: list[str] = []
    for segment in re.split(r"(\*\*|/)", glob):
        parts += ["/*"] if segment == "*" else [segment] if segment == "**" else re.split(r"(\*)", segment)
    return tuple(part for part in parts if part)


def path_matches(glob: str, path: str) -> bool:
    """Whether a rule's glob covers a path: `**` stands for anything, `*` for characters of one segment; a segment that
    is only `*` is never empty.

    All places are followed at once that a part may end at, so that a long path which nearly fits takes no longer.
    """
    places: Sequence[int] = (0,)
    for part in _path_parts(glob):
        if part == "**":
            places = range(places[0], len(path) + 1)
        elif part in {"*", "/*"}:
            places = _within_segments(path, places, least=len(part) - 1)
        else:
            places = [at + len(part) for at in places if path.startswith(part, at)]
        if not places:
            return False
    return places[-1] == len(path)


def _within_segments(path: str, places: Sequence[int], *, least: int) -> list[int]:
    """Where some characters, or at `least` so many, may end that begin at these places and hold no slash."""
    found: list[int] = []
    end = -1
    for at in places:
        if at > end:
            end = path.find("/", at)
            end = len(path) if end < 0 else end
            found += range(at + least, end + 1)
    return found


def name_matches(patterns: tuple[str, ...], name: str) -> bool:
    """Whether one of the patterns, in which `*` stands for anything, covers a tool's name."""
    return any(gate.matches(pattern, name) for pattern in patterns)


def rule_allows(rule: RequestRule, method: str, target: Target) -> bool:
    """Whether one rule covers a request: its method exactly, its origin, its path.

    Escapes in the path are read before it is compared; those that could change its segments were refused before, and
    an escaped slash, where the entry allows it, stays a character of its segment.
    """
    if method not in rule.methods or not origin_matches(rule.origin, target):
        return False
    path = unquote(_ESCAPED_SLASH.sub("%252F", target.path), encoding="latin-1")
    return path_matches(rule.path, path)


def match(entry: Entry, tools: tuple[str, ...], method: str, url: str | Target) -> Decision:  # noqa: PLR0911 - each answer has its reason
    """Whether the entry lets a request be made, and carry the key, while calls of `tools` are open; none at start-up.

    Where the entry has tool rules, only those of the open calls' tools count: with attribution exact there is one.
    Without tool rules, the entry's hosts count. Never raises: a URL that cannot be read is a refusal.
    """
    try:
        target = parse_url(url, escaped_slashes=entry.escaped_slashes) if isinstance(url, str) else url
    except InvalidInput as error:
        return Decision(permitted=False, code=error.code, message=error.message)
    if not _METHOD.fullmatch(method) or method in _NEVER_FORWARDED:
        return Decision(permitted=False, code="request.method", message=f"The method {method[:32]!r} is not forwarded.")
    if not any(origin_matches(host, target) for host in entry.hosts):
        return _forbidden(f"No host of this server's entry is {target.origin}.")
    if not tools:
        if any(rule_allows(rule, method, target) for rule in entry.startup):
            return Decision(permitted=True, code="request.startup", message="A start-up request that the entry lists.")
        return Decision(
            permitted=False,
            code="request.no_call",
            message=f"No call is open, and {method} {target.origin}{target.path} is not listed as a start-up request.",
        )
    if not entry.tools:
        return Decision(permitted=True, code="request.host", message="A host of the entry, which has no tool rules.")
    if any(rule_allows(rule, method, target) for tool in tools for rule in _rules_of(entry.tools, tool)):
        return Decision(permitted=True, code="request.rule", message="A rule of the open call's tool.")
    return _forbidden(f"{' and '.join(tools)} may not {method} {target.origin}{target.path}.")


def _rules_of(rules: tuple[ToolRule, ...], tool: str) -> tuple[RequestRule, ...]:
    return tuple(request for rule in rules if name_matches(rule.match, tool) for request in rule.requests)


def _forbidden(message: str) -> Decision:
    return Decision(
        permitted=False,
        code="request.rule",
        message=message,
        next_step="An administrator sees the rules of each server: percall-broker server show NAME.",
    )
