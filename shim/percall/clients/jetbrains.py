"""The XML in which JetBrains' AI Assistant kept its MCP servers until 2025.3, as its JSON has them since.

Two layouts, read alike: the entries stand in the component itself, or in its `commands` and `urls`. Only ever read.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from percall.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from xml.etree.ElementTree import Element

_COMPONENTS = frozenset({"McpApplicationServerCommands", "McpProjectServerCommands"})
_LISTS = frozenset({"commands", "urls"})
_MAPS = {"env": "env", "envs": "env", "environment": "env", "headers": "headers"}


def parse(text: str) -> dict[str, Any]:
    """The document's servers, in the form of `mcp.json`. Raises UsageError, with the line, where it is not XML."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise UsageError("config.syntax", "It declares entities, which no such file does.")
    try:
        root = ET.fromstring(text)  # noqa: S314 - entities were refused above
    except ET.ParseError as error:
        raise UsageError("config.syntax", f"It is not XML (line {error.position[0]}).") from None
    servers = {}
    for entry in _entries(root):
        name, server = _server(entry)
        if name and ("command" in server or "url" in server):
            servers[name] = server
    return {"mcpServers": servers}


def _entries(root: Element) -> Iterator[Element]:
    for component in root.iter("component"):
        if component.get("name") in _COMPONENTS:
            for child in component:
                yield from child if child.tag in _LISTS else (child,)


def _server(entry: Element) -> tuple[str, dict[str, Any]]:
    options: dict[str, str] = {}
    maps: dict[str, dict[str, str]] = {"env": {}, "headers": {}}
    _walk(entry, options, maps, "")
    server: dict[str, Any] = {name: texts for name, texts in maps.items() if texts}
    if command := options.get("programPath") or options.get("command"):
        server |= {"command": command, "args": _words(options.get("arguments", ""))}
    if url := options.get("url") or options.get("serverUrl"):
        server["url"] = url
    if options.get("enabled") == "false":
        server["disabled"] = True
    return options.get("name", ""), server


def _walk(element: Element, options: dict[str, str], maps: dict[str, dict[str, str]], inside: str) -> None:
    label = element.get("name", "") if element.tag == "option" else element.tag
    name, value = element.get("name") or element.get("key"), element.get("value")
    if inside:
        if name and value is not None:
            maps[inside][name] = value
    else:
        inside = _MAPS.get(label, "")
        if not inside and element.tag == "option" and name and value is not None:
            options.setdefault(name, value)
    for child in element:
        _walk(child, options, maps, inside)


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:
        return line.split()
