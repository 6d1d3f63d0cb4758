"""Whether a server's command works, as its client would see it: the session opens, its tools come, a probe answers.

A small MCP client over stdio (the era with `initialize`, which every server still speaks), for one question at a time.
"""

from __future__ import annotations

import contextlib
import json
import queue
import re
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from percall import __version__, home
from percall.errors import LaunchError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PATIENCE_SECONDS = 90.0
"""For all of it: the first start of a server may download it."""
_PROTOCOL = "2025-06-18"
_GRACE_SECONDS = 5.0
_MOST_PAGES = 50
_SHOWN_CHARACTERS = 300
_OWN_ERROR = re.compile(r"percall: (.+) \[([a-z_.]+)\]")


@dataclass(frozen=True, slots=True)
class Seen:
    """What the server showed: its tools, and whether a probe was called."""

    tools: tuple[str, ...]
    probed: bool


def try_out(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    probe: str = "",
    arguments: str = "",
    patience: float = PATIENCE_SECONDS,
) -> Seen:
    """Starts the command and asks it. `probe` is a tool to call with `arguments` (a JSON object).

    In an empty folder: launchers such as `npx` run what they find where they are started, and that may be a project of
    anybody's. Raises LaunchError, with what the server or Percall said.
    """
    with (
        tempfile.TemporaryDirectory(prefix="percall-", ignore_cleanup_errors=True) as empty,
        tempfile.TemporaryFile() as errors,
    ):
        try:
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**environment, **_own_home(environment)},
                cwd=empty,
            )
        except OSError as error:
            raise LaunchError("handshake.start", f"{command[0]} cannot be started: {error.strerror}.") from None
        session = _Session(process, time.monotonic() + patience)
        try:
            return session.asked(probe, arguments)
        except LaunchError as error:
            raise _explained(error, errors) from None
        finally:
            session.end()


def _own_home(environment: Mapping[str, str]) -> dict[str, str]:
    """Percall's folder, where it is named from the folder that we are in."""
    named = environment.get(home.VARIABLE, "")
    return {home.VARIABLE: str(Path(named).absolute())} if named else {}


class _Session:
    def __init__(self, process: subprocess.Popen[bytes], until: float) -> None:
        self._process = process
        self._until = until
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self._next = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def asked(self, probe: str, arguments: str) -> Seen:
        self._request(
            "initialize",
            {
                "protocolVersion": _PROTOCOL,
                "capabilities": {},
                "clientInfo": {"name": "percall-handshake", "version": __version__},
            },
        )
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        tools = self._tools()
        if probe:
            self._probe(probe, json.loads(arguments or "{}"))
        return Seen(tuple(tools), bool(probe))

    def _tools(self) -> list[str]:
        names: list[str] = []
        cursor: dict[str, Any] = {}
        for _ in range(_MOST_PAGES):
            result = self._request("tools/list", cursor)
            names += [str(tool.get("name")) for tool in result.get("tools", []) if isinstance(tool, dict)]
            if not result.get("nextCursor"):
                break
            cursor = {"cursor": result["nextCursor"]}
        return names

    def _probe(self, tool: str, arguments: Any) -> None:
        answer = self._answer("tools/call", {"name": tool, "arguments": arguments})
        result = _object(answer.get("result"))
        if "error" in answer or result.get("isError"):
            texts = [str(part.get("text", "")) for part in result.get("content", []) if isinstance(part, dict)]
            said = _said_in(answer) or " ".join(texts)
            raise LaunchError("handshake.probe", f"The probe {tool} failed: {said[:_SHOWN_CHARACTERS]}")

    def _request(self, method: str, params: Any) -> dict[str, Any]:
        answer = self._answer(method, params)
        if "error" in answer:
            raise LaunchError("handshake.refused", f"{method} failed: {_said_in(answer)[:_SHOWN_CHARACTERS]}")
        return _object(answer.get("result"))

    def _answer(self, method: str, params: Any) -> dict[str, Any]:
        self._next += 1
        self._send({"jsonrpc": "2.0", "id": self._next, "method": method, "params": params})
        while True:
            frame = self._receive(method)
            if frame.get("id") == self._next and "method" not in frame:
                return frame

    def _receive(self, method: str) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=max(0.001, self._until - time.monotonic()))
        except queue.Empty:
            raise LaunchError("handshake.silent", f"It gave no answer to {method} in time.") from None
        if line is None:
            raise LaunchError("handshake.ended", f"It ended before it answered {method}.")
        try:
            frame = json.loads(line)
        except ValueError:
            frame = None
        if not isinstance(frame, dict):
            raise LaunchError("handshake.frames", "What it prints is not JSON-RPC.")
        return frame

    def _send(self, message: Any) -> None:
        assert self._process.stdin is not None  # noqa: S101 - Popen pipes it
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise LaunchError("handshake.ended", "It ended at once.") from None

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - Popen pipes it
        with self._process.stdout:
            for line in self._process.stdout:
                self._lines.put(line)
        self._lines.put(None)

    def end(self) -> None:
        """As a client ends a server: its input closes; one that stays is stopped."""
        assert self._process.stdin is not None  # noqa: S101 - Popen pipes it
        with contextlib.suppress(OSError):  # it may be gone already
            self._process.stdin.close()
        for stop in (None, self._process.terminate, self._process.kill):
            if stop is not None:
                stop()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE_SECONDS)
                break
        self._reader.join(_GRACE_SECONDS)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _said_in(answer: dict[str, Any]) -> str:
    """The words of a JSON-RPC error; none where there is none."""
    return str(_object(answer.get("error")).get("message", ""))


def _explained(error: LaunchError, errors: Any) -> LaunchError:
    """The error with what was said on stderr: Percall's own words where it ended by one of its errors."""
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    for index, line in enumerate(lines if error.code == "handshake.ended" else ()):
        if own := _OWN_ERROR.fullmatch(line):
            return LaunchError(own[2], own[1], "".join(lines[index + 1 : index + 2]).strip())
    is_answered = error.code in {"handshake.refused", "handshake.probe"}  # whose own words say it already
    said = lines[-1][:_SHOWN_CHARACTERS] if lines and not is_answered else ""
    return LaunchError(error.code, f"{error.message}{f' It said: {said}' if said else ''}")
