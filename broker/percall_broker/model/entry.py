"""A server entry: how to launch an MCP server, which key it needs, where the key goes, and what each tool may do."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Slot:
    """One place where the key goes. `kind` is header, basic, query, json or form.

    `name`: the header's, query parameter's or form field's name; for basic `username` or `password`; for json a JSON
    pointer (RFC 6901). `format` holds `{key}`: `Bearer {key}` for a header, `{key}` elsewhere.
    """

    kind: str
    name: str
    format: str = "{key}"


@dataclass(frozen=True, slots=True)
class RequestRule:
    """Requests that are allowed: methods, one origin (`https://api.github.com`, `https://*.slack.com`), a path glob.

    In the path `*` stands for one segment's characters and `**` for any. Written `GET,HEAD api.github.com/repos/**`.
    """

    methods: tuple[str, ...]
    origin: str
    path: str


@dataclass(frozen=True, slots=True)
class ToolRule:
    """Tool-name patterns, and the requests that a call of such a tool may make."""

    match: tuple[str, ...]
    requests: tuple[RequestRule, ...]


@dataclass(frozen=True, slots=True)
class Probe:
    """A read-only call that proves the entry works."""

    tool: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Recognition:
    """How a client's config shows that it means this server.

    `launches` are what `percall.clients.launches` reads from a config: `npm:PACKAGE`, `pypi:PACKAGE`, `docker:IMAGE`,
    `program:NAME`, or a URL. `keys` are further variables and options that hold the key, besides the entry's own.
    """

    launches: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """A server entry, validated. `delivery` is egress, relay or none.

    `url` is where a remote server (relay) is; a local one has a `command`. `key_owner` says whose keys it allows: any,
    personal or shared.
    `hosts` are origins: https, or http on loopback where an administrator named it. `connect` maps an https origin to
    a loopback http origin that stands in for it (tests and demos). `escaped_slashes`: see `rules.parse_url`.
    """

    title: str
    delivery: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict, hash=False)
    pass_environment: tuple[str, ...] = ()
    placeholder: str = ""
    slots: tuple[Slot, ...] = ()
    ways: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    connect: dict[str, str] = field(default_factory=dict, hash=False)
    unlisted_hosts: str = "refuse"
    attribution: str = "shared"
    tools: tuple[ToolRule, ...] = ()
    startup: tuple[RequestRule, ...] = ()
    sampling: bool = False
    deadline_seconds: int = 600
    max_requests: int = 1000
    default_tools: tuple[str, ...] = ()
    probe: Probe | None = None
    url: str = ""
    key_owner: str = "any"
    recognition: Recognition = Recognition()
    escaped_slashes: bool = False

    @property
    def key_names(self) -> tuple[str, ...]:
        """The variables and options that hold this server's key in a client's config."""
        held = [name for name, value in self.environment.items() if "{key}" in value]
        return tuple(dict.fromkeys([*held, *self.recognition.keys]))
