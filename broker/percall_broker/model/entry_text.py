"""Writes a server entry as the TOML that `entry_file` reads: what a catalogue holds can be taken elsewhere."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

import tomlkit

from percall_broker.model.entry import Entry
from percall_broker.model.marking import is_hidden

if TYPE_CHECKING:
    from collections.abc import Iterable

    from percall_broker.model.entry import RequestRule, Slot


def written(entry: Entry) -> str:
    """The TOML that reads as this entry, save for `connect`, which no file may say. What is as by default is left out,
    but for `attribution`, whose default depends on the rest.
    """
    server = _told(entry, "title", "delivery", "url", "command", "pass_environment", "sampling")
    server |= {"attribution": entry.attribution} | _told(entry, "deadline_seconds", "max_requests", "environment")
    owner = {"owner": entry.key_owner} if entry.key_owner != "any" else {}
    document = {
        "server": server,
        "key": {**_told(entry, "placeholder"), **owner, **_some("slot", map(_slot, entry.slots))},
        "egress": _told(entry, "ways", "hosts", "unlisted_hosts", "escaped_slashes"),
        "startup": _some("requests", map(request_text, entry.startup)),
        "tool": [
            {"match": list(rule.match), **_some("requests", map(request_text, rule.requests))} for rule in entry.tools
        ],
        "defaults": _some("tools", entry.default_tools),
        "probe": {"tool": entry.probe.tool, "arguments": entry.probe.arguments} if entry.probe else {},
        "recognise": _some("launches", entry.recognition.launches) | _some("keys", entry.recognition.keys),
    }
    return "".join(map(_seen, tomlkit.dumps({name: table for name, table in document.items() if table})))


def request_text(rule: RequestRule) -> str:
    """`GET,HEAD https://api.github.com/repos/**`."""
    return f"{','.join(rule.methods)} {rule.origin}{rule.path}"


def _seen(character: str) -> str:
    """What would hide in a text, or pile up in it, stands there by its number; it is in a string, as no name has it."""
    hides = character != "\n" and (is_hidden(character) or unicodedata.category(character) in {"Mn", "Me"})
    return f"\\U{ord(character):08x}" if hides else character


_PLAIN = Entry(title="", delivery="", command=())


def _told(entry: Entry, *names: str) -> dict[str, Any]:
    values = {name: getattr(entry, name) for name in names}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
        if value != getattr(_PLAIN, name)
    }


def _some(name: str, values: Iterable[Any]) -> dict[str, Any]:
    return {name: found} if (found := list(values)) else {}


def _slot(slot: Slot) -> dict[str, str]:
    return {slot.kind: slot.name} | ({"format": slot.format} if slot.format != "{key}" else {})
