"""One server's entry in a client's config: as it would be with Percall, and the difference for a person to read.

Member by member, so that comments and order are kept, and with them whatever the client keeps there besides (tool
approvals, time-outs). Keys are masked wherever a person sees an entry, and so is what might be one.
"""

from __future__ import annotations

import difflib
import json
from typing import TYPE_CHECKING, Any

from percall import home
from percall.clients import documents, literal_secrets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from percall.clients.catalogue import Client
    from percall.clients.jsonc import Step

# What belongs to the launch or the address that goes away, whichever client's word it is.
_OF_LAUNCH = frozenset({
    "args", "env", "envFile", "environment", "url", "serverUrl", "httpUrl", "headers", "http_headers",
    "env_http_headers", "bearer_token_env_var", "oauth", "auth", "authProviderType", "env_vars",
})  # fmt: skip

# Whose members are values for the server.
_OF_VALUES = frozenset({"env", "environment", "headers", "http_headers", "oauth", "auth", "settings"})


def at(text: str, client: Client, path: Sequence[Step]) -> Any:
    """The entry at a path; None where there is none. Raises UsageError."""
    return documents.at(documents.read(text, client.form), path)


def launching(client: Client, command: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """The members of an entry that runs a command, in a client's own words."""
    shape = client.shape
    members: dict[str, Any] = {shape.command: list(command) if shape.command_list else command[0]}
    if shape.arguments:
        members[shape.arguments] = list(command[1:])
    if environment:
        members[shape.environment] = dict(environment)
    return members


def with_percall(
    text: str, client: Client, path: Sequence[str], command: Sequence[str], environment: Mapping[str, str]
) -> str:
    """The text with Percall's command in this entry. Raises UsageError, KeyError where the entry is not there."""
    form = client.form
    entry = at(text, client, path)
    members = launching(client, command, environment) | dict(client.shape.extra)
    if "type" in entry and "type" not in members:
        members["type"] = "stdio"
    for name in entry:
        if name in _OF_LAUNCH and name not in members:
            text = documents.removed(text, form, [*path, name])
    for name, value in members.items():
        if name in entry and entry[name] != value:
            text = documents.replaced(text, form, [*path, name], value)
        elif name not in entry:
            text = documents.inserted(text, form, [*path, name], value)
    return text


def mended(
    text: str, client: Client, path: Sequence[str], command: Sequence[str], environment: Mapping[str, str]
) -> str:
    """The text with an entry that is Percall's already running this command; all that a person has put there stays.

    Percall's own variables become those of `environment`. Raises UsageError, KeyError where the entry is not there.
    """
    shape, form = client.shape, client.form
    entry = at(text, client, path)
    program, arguments, variables = [*path, shape.command], [*path, shape.arguments], [*path, shape.environment]
    if isinstance(entry[shape.command], dict):  # Zed's older form
        program, arguments, variables = ([*program, name] for name in ("path", "args", "env"))
    if shape.command_list:
        text = _with(text, client, program, list(command))
    else:
        text = _with(text, client, program, command[0])
        text = _with(text, client, arguments, list(command[1:]))
    if home.VARIABLE not in environment and at(text, client, [*variables, home.VARIABLE]) is not None:
        text = documents.removed(text, form, [*variables, home.VARIABLE])
    for name, value in environment.items():
        text = _with(text, client, [*variables, name], value)
    return text


def _with(text: str, client: Client, path: Sequence[str], value: Any) -> str:
    """The text with a value at a path; what is missing on the way to it is made."""
    there = at(text, client, path)
    if there is None:
        return documents.inserted(text, client.form, path, value)
    return text if there == value else documents.replaced(text, client.form, path, value)


def with_entry(text: str, client: Client, path: Sequence[str], entry: Any) -> str:
    """The text with an entry as it was before. Raises UsageError."""
    if at(text, client, path) is None:
        return documents.inserted(text, client.form, path, entry)
    return documents.replaced(text, client.form, path, entry)


def difference(before: Any, after: Any, masks: Mapping[str, str]) -> list[str]:
    """The lines that go (`- `), come (`+ `) and stay (`  `). `masks` says what stands for each pasted secret."""
    old, new = (_lines(entry, masks) for entry in (before, after))
    return [line for line in difflib.ndiff(old, new) if not line.startswith("?")]


def _lines(entry: Any, masks: Mapping[str, str]) -> list[str]:
    return json.dumps(_masked(entry, masks), indent=2, ensure_ascii=False).splitlines()


def _masked(value: Any, masks: Mapping[str, str], *, is_value: bool = False) -> Any:
    """`is_value`: it is given to the server, so that nobody can tell that it is no secret, but for plain words."""
    if isinstance(value, dict):
        return {name: _masked(member, masks, is_value=is_value or name in _OF_VALUES) for name, member in value.items()}
    if isinstance(value, list):
        return [_masked(member, masks, is_value=is_value) for member in value]
    if not isinstance(value, str) or value in masks:
        return masks.get(value, value)
    if is_value and not literal_secrets.may_be_shown(value):
        return "(value)"
    return value.partition("?")[0] + "?(query)" if "://" in value and "?" in value else value
