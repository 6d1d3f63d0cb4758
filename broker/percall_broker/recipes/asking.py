"""Starts a server and asks it for its tools: a plain MCP client over STDIO, for one question.

The server gets a clean environment and no key. It is code from a registry: whoever calls this chose to run it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from threading import Timer
from typing import TYPE_CHECKING, Any

from percall_broker.model.errors import Unavailable
from percall_broker.recipes.lint import Tool

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_INHERITED = ("HOME", "LANG", "PATH", "SYSTEMROOT", "TMPDIR", "USER", "XDG_CACHE_HOME", "APPDATA", "LOCALAPPDATA")
_PATIENCE_SECONDS = 120.0  # npx and uvx download first
_REVISION = "2025-06-18"


def tools_of(command: Sequence[str], environment: Mapping[str, str]) -> tuple[Tool, ...]:
    """The tools that a server lists. Raises Unavailable when it does not start or answer."""
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    try:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**kept, **environment},
            start_new_session=True,  # npx and uvx start the server as a child of theirs
        )
    except OSError as error:
        raise Unavailable(
            "recipe.start",
            f"{command[0]} cannot be started: {error.strerror}.",
            "Install it here, or leave `--start` out.",
        ) from None
    timer = Timer(_PATIENCE_SECONDS, _end, [process])
    timer.start()
    try:
        client = {"name": "percall-broker", "version": "1"}
        _ask(process, 1, "initialize", {"protocolVersion": _REVISION, "capabilities": {}, "clientInfo": client})
        _send(process, {"jsonrpc": "2.0", "method": "notifications/initialized"})
        return tuple(_all_tools(process))
    except (OSError, ValueError, KeyError, TypeError):
        raise Unavailable(
            "recipe.ask",
            f"{' '.join(command)} did not answer as an MCP server.",
            "Some servers want a real key when they start: give `--tools FILE` with their tools instead.",
        ) from None
    finally:
        timer.cancel()
        _end(process)
        process.communicate()


def _end(process: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        process.kill()
        return
    with contextlib.suppress(ProcessLookupError):  # the whole group has gone already
        os.killpg(process.pid, signal.SIGKILL)


def tools_in(document: Any) -> tuple[Tool, ...]:
    """The tools of a `tools/list` answer, its result, or a plain list of names or tools. Raises ValueError."""
    for member in ("result", "tools"):
        if isinstance(document, dict) and member in document:
            document = document[member]
    if not isinstance(document, list):
        raise ValueError("no list of tools")  # noqa: TRY004 - whoever calls catches one kind
    return tuple(Tool(item) if isinstance(item, str) else _tool(item) for item in document)


def _tool(item: Any) -> Tool:
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        raise ValueError("a tool without a name")  # noqa: TRY004 - as above
    hint = (item.get("annotations") or {}).get("readOnlyHint")
    return Tool(item["name"], hint if isinstance(hint, bool) else None)


def _all_tools(process: subprocess.Popen[bytes]) -> list[Tool]:
    found: list[Tool] = []
    cursor: str | None = None
    for number in range(2, 100):
        result = _ask(process, number, "tools/list", {"cursor": cursor} if cursor else {})
        found += tools_in(result)
        cursor = result.get("nextCursor")
        if not cursor:
            break
    return found


def _send(process: subprocess.Popen[bytes], message: dict[str, Any]) -> None:
    assert process.stdin is not None  # noqa: S101 - it is a pipe
    process.stdin.write(json.dumps(message).encode() + b"\n")
    process.stdin.flush()


def _ask(process: subprocess.Popen[bytes], number: int, method: str, params: dict[str, Any]) -> dict[str, Any]:
    _send(process, {"jsonrpc": "2.0", "id": number, "method": method, "params": params})
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    for line in process.stdout:
        answer = json.loads(line) if line.startswith(b"{") else {}
        if answer.get("id") == number:
            result: dict[str, Any] = answer["result"]
            return result
    raise ValueError("it ended")
