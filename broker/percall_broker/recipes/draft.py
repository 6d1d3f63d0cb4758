"""A first draft of a recipe, from what its package and its tools say. A person reviews each line before it is used."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from percall_broker.recipes.lint import DRAFT

if TYPE_CHECKING:
    from percall_broker.recipes.lint import Tool
    from percall_broker.recipes.package import Facts

_READING = ("get_*", "list_*", "search_*")


def draft(facts: Facts, key: str, host: str, tools: tuple[Tool, ...] = ()) -> str:
    """The recipe's text. An empty `key` means a server without one; `host` is where its API is."""
    title = re.sub(r"^@[^/]+/", "", facts.name)
    lines = [
        f"{DRAFT}, made from what {facts.name} {facts.version} says of itself. Review each line: which requests a",
        "# tool makes stands in its source, and docs/how-to/write-a-recipe.md says what to look for.",
        "[server]",
        f"title = {_text(title)}",
        f'delivery = "{"egress" if key else "none"}"',
        f"command = {_list(facts.command)}",
        "",
    ]
    lines += _way_in(facts, key, host) if key else []
    lines += ["[recognise]", f"launches = {_list((f'{facts.kind}:{facts.name}',))}", ""]
    reads = tuple(tool.name for tool in tools if tool.reads)
    patterns = reads or (() if tools else _READING)
    lines += ["[defaults]", f"tools = {_list(patterns)}" + ("" if patterns else " # which of them only read?"), ""]
    lines += [
        "# A tool that changes nothing and costs little; `percall adopt` calls it to see whether a key works.",
        "[probe]",
        f"tool = {_text(reads[0] if reads else 'get_me')}",
        "arguments = '{}'",
    ]
    lines += _rules(host, tools, patterns) if key else []
    return "\n".join(lines) + "\n"


def _way_in(facts: Facts, key: str, host: str) -> list[str]:
    others = [name for name in facts.keys if name != key][:5]
    node = facts.kind == "npm"
    base = facts.base_urls[0] if facts.base_urls else ""
    ways = [*(["base-url"] if base else []), *(["preload"] if node else []), "proxy"]
    return [
        "[server.environment]",
        f'{key} = "{{key}}"' + (f" # it also reads {', '.join(others)}" if others else ""),
        *(
            [f'{base} = "{{listener:https://{host}}}" # is this where its API is, with or without a path?']
            if base
            else []
        ),
        "",
        "[key]",
        'placeholder = "{random:40}" # in the key\'s own format: its prefix first',
        "",
        "# Where the key goes in its requests: see docs/reference/server-entry.md for the other slots.",
        "[[key.slot]]",
        'header = "Authorization"',
        'format = "Bearer {key}"',
        "",
        "[egress]",
        f"ways = {_list(ways)}",
        f"hosts = {_list((host,))}" + _others(facts.hosts, host),
        'unlisted_hosts = "tunnel" # the launcher downloads the package',
        "",
    ]


def _rules(host: str, tools: tuple[Tool, ...], reads: tuple[str, ...]) -> list[str]:
    lines = ["", "[[tool]]", f"match = {_list(reads)}", f'requests = ["GET {host}/**"]'] if reads else []
    for tool in tools:
        if tool.name not in reads:
            lines += ["", "[[tool]]", f"match = {_list((tool.name,))}", "requests = [] # which?"]
    return lines


def _others(hosts: tuple[str, ...], chosen: str) -> str:
    others = [host for host in hosts if host != chosen][:5]
    return f" # its source also names {', '.join(others)}" if others else ""


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _list(values: tuple[str, ...] | list[str]) -> str:
    return "[" + ", ".join(_text(value) for value in values) + "]"
