"""Reads a server entry from TOML, the one format of recipes and of administrators' own files.

Every mistake is answered with the place where it stands. An unknown name is a mistake too: a misspelt rule must not
be a rule that is silently absent.
"""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any
from urllib.parse import parse_qsl

from percall import placeholder
from percall_broker.model.entry import Entry, Probe, Recognition, RequestRule, Slot, ToolRule
from percall_broker.model.errors import InvalidInput
from percall_broker.model.keys import OWNERS
from percall_broker.model.rules import is_loopback_name, loopback_origins, origin_matches, parse_origin, parse_url

DELIVERIES = ("egress", "relay", "none")
WAYS = ("base-url", "preload", "proxy")
_LISTENER = re.compile(r"\{listener:([^{}]*)\}")
_TEMPLATE = re.compile(r"\{[^{}]*\}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LAUNCH = re.compile(r"(npm|pypi|docker|program):[A-Za-z0-9@._/-]{1,200}|https?://[!-~]{1,500}")
_KEY_NAME = re.compile(r"[A-Za-z_-][A-Za-z0-9_-]*")
_METHODS = re.compile(r"[A-Z]+(,[A-Z]+)*")
_EXPECTED = {str: "a text", int: "a number", bool: "true or false", list: "a list", dict: "a table"}
_SLOT_KINDS = ("header", "basic", "query", "json", "form")
# A key in one of these would change how a message is framed, or whose it is.
_TAKEN = frozenset({
    "host", "content-type", "content-length", "transfer-encoding", "connection", "accept", "accept-encoding",
    "content-encoding", "expect", "te", "trailer", "upgrade", "last-event-id", "user-agent", "dpop",
})  # fmt: skip
_TAKEN_PREFIXES = ("mcp-", "percall-", "proxy-")
_MAX_DEADLINE_SECONDS = 24 * 3600


def read(text: str, *, connect: dict[str, str] | None = None) -> Entry:
    """The entry of a TOML text. `connect` maps an https origin to the loopback http origin that stands in for it.

    Raises InvalidInput (`entry.*`), whose message names the place in the file.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput("entry.toml", f"The entry is not TOML: {error}.") from None
    except RecursionError:
        raise InvalidInput("entry.toml", "The entry cannot be read: it is nested too deeply.") from None
    root = _Table(document, "")
    server, key, egress = root.table("server"), root.table("key"), root.table("egress")
    startup, defaults, probe = root.table("startup"), root.table("defaults"), root.table("probe")
    recognise = root.table("recognise")
    tools = tuple(_tool_rule(table) for table in root.tables("tool"))
    root.end()

    delivery = server.one_of("delivery", DELIVERIES, "egress")
    hosts = tuple(_origin(host, "egress.hosts") for host in egress.texts("hosts"))
    url = _url(server.text("url", required=True)) if delivery == "relay" else ""
    entry = Entry(
        title=server.text("title", required=True),
        delivery=delivery,
        command=() if url else server.texts("command", required=True),
        environment=server.map("environment"),
        pass_environment=server.texts("pass_environment"),
        placeholder=key.text("placeholder"),
        slots=tuple(_slot(table) for table in key.tables("slot")),
        ways=egress.texts("ways"),
        hosts=hosts,
        connect=_connections(connect or {}, (parse_url(url).origin,) if url else hosts),
        unlisted_hosts=egress.one_of("unlisted_hosts", ("refuse", "tunnel"), "refuse"),
        attribution=server.one_of("attribution", ("exact", "shared"), "exact" if tools else "shared"),
        tools=tools,
        startup=_requests(startup, "requests"),
        sampling=server.flag("sampling"),
        deadline_seconds=server.number("deadline_seconds", 600, _MAX_DEADLINE_SECONDS),
        max_requests=server.number("max_requests", 1000, 1_000_000),
        default_tools=defaults.texts("tools"),
        probe=_probe(probe),
        url=url,
        key_owner=key.one_of("owner", OWNERS, "any"),
        recognition=_recognition(recognise),
        escaped_slashes=egress.flag("escaped_slashes"),
    )
    for table in (server, key, egress, startup, defaults, probe, recognise):
        table.end()
    _check(entry)
    return entry


class _Table:
    """A TOML table that is read member by member; what nobody read is a mistake."""

    def __init__(self, members: dict[str, Any], place: str) -> None:
        self._members = dict(members)
        self.place = place

    def __bool__(self) -> bool:
        return bool(self._members)

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def _take(self, name: str, kind: type, default: Any) -> Any:
        value = self._members.pop(name, default)
        if type(value) is not kind:
            raise _wrong(self.path(name), f"{_EXPECTED[kind]} is expected")
        return value

    def path(self, name: str) -> str:
        return f"{self.place}.{name}" if self.place else name

    def text(self, name: str, *, required: bool = False) -> str:
        value: str = self._take(name, str, "")
        if required and not value:
            raise _wrong(self.path(name), "it is missing")
        self._check_text(name, value)
        return value

    def _check_text(self, name: str, value: str) -> None:
        if "\0" in value:
            raise _wrong(self.path(name), "it holds a NUL, which nothing takes")

    def texts(self, name: str, *, required: bool = False) -> tuple[str, ...]:
        values: list[Any] = self._take(name, list, [])
        if any(type(value) is not str or not value for value in values):
            raise _wrong(self.path(name), "each must be a text that is not empty")
        if required and not values:
            raise _wrong(self.path(name), "it is missing")
        for value in values:
            self._check_text(name, value)
        return tuple(values)

    def map(self, name: str) -> dict[str, str]:
        values: dict[str, Any] = self._take(name, dict, {})
        for variable, value in values.items():
            if type(value) is not str or not _VARIABLE.fullmatch(variable):
                raise _wrong(f"{self.path(name)}.{variable}", "a variable's name, and a text, are expected")
            self._check_text(f"{name}.{variable}", value)
        return values

    def flag(self, name: str) -> bool:
        return bool(self._take(name, bool, False))

    def number(self, name: str, default: int, most: int) -> int:
        value: int = self._take(name, int, default)
        if not 1 <= value <= most:
            raise _wrong(self.path(name), f"it must lie between 1 and {most}")
        return value

    def one_of(self, name: str, choices: tuple[str, ...], default: str) -> str:
        value: str = self._take(name, str, default)
        if value not in choices:
            raise _wrong(self.path(name), f"it must be one of {', '.join(choices)}")
        return value

    def table(self, name: str) -> _Table:
        return _Table(self._take(name, dict, {}), self.path(name))

    def tables(self, name: str) -> list[_Table]:
        values: list[Any] = self._take(name, list, [])
        if any(type(value) is not dict for value in values):
            raise _wrong(self.path(name), f"tables are expected: [[{self.path(name)}]]")
        return [_Table(value, f"{self.path(name)}[{number}]") for number, value in enumerate(values)]

    def end(self) -> None:
        if self._members:
            raise _wrong(self.path(min(self._members)), "there is no such setting")


def _wrong(place: str, why: str) -> InvalidInput:
    return InvalidInput("entry.invalid", f"{place}: {why}.", "docs/reference/server-entry.md lists every setting.")


def _origin(text: str, place: str) -> str:
    try:
        return parse_origin(text)
    except InvalidInput as error:
        raise _wrong(place, error.message.rstrip(".")) from None


def _url(text: str) -> str:
    """A remote server's address: https, or http on loopback."""
    try:
        target = parse_url(text)
    except InvalidInput as error:
        raise _wrong("server.url", error.message.rstrip(".")) from None
    if target.scheme == "http" and not is_loopback_name(target.host):
        raise _wrong("server.url", "http is for loopback alone; write https")
    return str(target)


def _connections(connect: dict[str, str], hosts: tuple[str, ...]) -> dict[str, str]:
    result = {}
    for given, stand_in in connect.items():
        origin, target = _origin(given, "connect"), _origin(stand_in, "connect")
        if origin not in hosts and not any(origin_matches(host, parse_url(origin.replace("*.", ""))) for host in hosts):
            raise _wrong("connect", f"{origin} is none of the entry's hosts ({', '.join(hosts)})")
        if not target.startswith("http://"):
            raise _wrong("connect", f"{target} is not an http origin on loopback")
        result[origin] = target
    return result


def _tool_rule(table: _Table) -> ToolRule:
    rule = ToolRule(table.texts("match", required=True), _requests(table, "requests"))
    table.end()
    return rule


def _recognition(table: _Table) -> Recognition:
    launches, keys = table.texts("launches"), table.texts("keys")
    for launch in launches:
        if not _LAUNCH.fullmatch(launch):
            raise _wrong(table.path("launches"), f"{launch!r} is not npm:, pypi:, docker: or program:NAME, nor a URL")
    for name in keys:
        if not _KEY_NAME.fullmatch(name):
            raise _wrong(table.path("keys"), f"{name!r} is not the name of a variable or an option")
    return Recognition(launches, keys)


def _probe(table: _Table) -> Probe | None:
    if not table:
        return None
    tool, arguments = table.text("tool", required=True), table.text("arguments") or "{}"
    try:
        fits = type(json.loads(arguments)) is dict
    except (ValueError, RecursionError):  # the latter: it is nested too deeply
        fits = False
    if not fits:
        raise _wrong(table.path("arguments"), "it must be a JSON object, in a text")
    return Probe(tool, arguments)


def _requests(table: _Table, name: str) -> tuple[RequestRule, ...]:
    return tuple(_request(text, table.path(name)) for text in table.texts(name))


def _request(text: str, place: str) -> RequestRule:
    """`GET,HEAD api.github.com/repos/**`: methods, then an origin (https unless it says http), then a path."""
    methods, _, url = text.partition(" ")
    if not _METHODS.fullmatch(methods) or not url or " " in url:
        raise _wrong(place, f"{text!r} is not METHOD[,METHOD] HOST/PATH")
    scheme, _, rest = url.rpartition("://")
    authority, slash, path = rest.partition("/")
    if not slash:
        raise _wrong(place, f"{text!r} has no path; write /** for any")
    return RequestRule(tuple(methods.split(",")), _origin(f"{scheme or 'https'}://{authority}", place), f"/{path}")


def _slot(table: _Table) -> Slot:
    kinds = [kind for kind in _SLOT_KINDS if kind in table]
    if len(kinds) != 1:
        raise _wrong(table.place, f"a slot is one of {', '.join(_SLOT_KINDS)}")
    kind = kinds[0]
    name, form = table.text(kind, required=True), table.text("format") or "{key}"
    if form.count("{key}") != 1 or (kind != "header" and form != "{key}"):
        raise _wrong(table.path("format"), "it holds {key} once, and only a header has one")
    if not (form.isascii() and form.isprintable()):
        raise _wrong(table.path("format"), "a header is of printable ASCII")
    if kind == "header" and not _HEADER.fullmatch(name):
        raise _wrong(table.path(kind), "it is not a header's name")
    if kind == "header" and name.lower() in _TAKEN:
        raise _wrong(table.path(kind), f"the header {name!r} has a meaning of its own")
    if kind == "basic" and name not in {"username", "password"}:
        raise _wrong(table.path(kind), "it must be username or password")
    if kind == "json" and not name.startswith("/"):
        raise _wrong(table.path(kind), "it must be a JSON pointer, such as /api_key")
    table.end()
    return Slot(kind, name, form)


def _check(entry: Entry) -> None:
    """What must hold between the settings."""
    for way in entry.ways:
        if way not in WAYS:
            raise _wrong("egress.ways", f"{way!r} is none of {', '.join(WAYS)}")
    if entry.delivery == "none":
        if entry.slots or entry.hosts or entry.ways or entry.placeholder or entry.tools or entry.startup:
            raise _wrong("server.delivery", "a server without a key has no [key], [egress], [[tool]] or [startup]")
    elif entry.delivery == "relay":
        _check_relay(entry)
    elif not (entry.slots and entry.hosts and entry.ways and entry.placeholder):
        raise _wrong("server.delivery", "egress needs key.placeholder, [[key.slot]], egress.ways and egress.hosts")
    _check_key(entry)
    for name, value in entry.environment.items():
        _check_templates(name, value, entry)
    for rule in [rule for tool in entry.tools for rule in tool.requests] + list(entry.startup):
        if rule.origin not in entry.hosts:
            raise _wrong("requests", f"{rule.origin} is none of egress.hosts")


def _check_relay(entry: Entry) -> None:
    local = (entry.hosts, entry.ways, entry.placeholder, entry.tools, entry.startup, entry.environment)
    if any((*local, entry.pass_environment)):
        raise _wrong("server.delivery", "a remote server has a url and [[key.slot]]; the rest is for local ones")
    for slot in entry.slots:
        if slot.kind not in {"header", "query"}:
            raise _wrong("key.slot", "a remote server's key goes into a header or the query")
        if slot.kind == "query" and slot.name in dict(
            parse_qsl(parse_url(entry.url).query or "", keep_blank_values=True)
        ):
            raise _wrong("key.slot", f"server.url has the parameter {slot.name!r} already")
        if slot.kind == "header" and slot.name.lower().startswith(_TAKEN_PREFIXES):
            raise _wrong("key.slot", f"the header {slot.name!r} has a meaning of its own")


def _check_key(entry: Entry) -> None:
    if entry.key_owner != "any" and not entry.slots:
        raise _wrong("key.owner", "a server without [[key.slot]] has no key")
    if entry.placeholder and (why := placeholder.objection(entry.placeholder)):
        raise _wrong("key.placeholder", why)


def _check_templates(name: str, value: str, entry: Entry) -> None:
    place = f"server.environment.{name}"
    for template in _TEMPLATE.findall(value):
        listened = _LISTENER.fullmatch(template)
        if template == "{proxy}":
            if "proxy" not in entry.ways:
                raise _wrong(place, "{proxy} needs the way in proxy")
        elif listened is None:
            if template != "{key}" or not entry.slots:
                raise _wrong(place, f"{template} is none of {{key}}, {{proxy}} and {{listener:ORIGIN}}")
        elif "base-url" not in entry.ways:
            raise _wrong(place, "{listener:ORIGIN} needs the way in base-url")
        elif "*" in listened[1]:
            raise _wrong(place, f"{template} must name one host, without *")
        elif _origin(listened[1], place) not in entry.hosts:
            raise _wrong(place, f"{listened[1]} is none of egress.hosts")


def label(entry: Entry) -> str:
    """The delivery as a person reads it, with what it cannot promise."""
    if entry.delivery == "none":
        return "no key"
    if entry.delivery == "relay":
        parts = ["key stays in the broker" if entry.slots else "no key", "remote"]
    else:
        parts = ["key stays in the broker"]
        if not entry.tools:
            parts.append("requests are not told apart by tool")
        if entry.attribution == "shared":
            parts.append("requests are attributed to all open calls")
    if loopback_origins(entry):
        parts.append("loopback upstream")
    return "; ".join(parts)
