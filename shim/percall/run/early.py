"""The earliest start: the child of a server without a key runs before most of the shim is even imported.

It looks at the cached records as plain JSON and starts only in the plain case: one active grant that covers the
server, a launch that is trusted word for word. In every other case, and after it, `Launch` looks properly and has the
last word.
"""

from __future__ import annotations

import json
import os
import time

from percall.errors import LaunchError
from percall.run.child import Child, clean_environment

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    from typing import Any

_LAUNCH = ("command", "environment", "pass_environment")


def start(server: str, agent: str | None, command: list[str] | None) -> Child | None:
    """The child, if this is the plain case. Raises LaunchError when it is and its program cannot be started."""
    try:
        folder = os.environ.get("PERCALL_HOME") or os.path.expanduser("~/.percall")  # noqa: PTH111 - pathlib costs 5 ms
        logins = [record for record in _records(f"{folder}/logins") if record["agent"] == (agent or "default")]
        sessions = [(login, _granted(_record(f"{folder}/sessions/{login['grant']}.json"), server)) for login in logins]
        found = [(login, entry) for login, entry in sessions if entry is not None]
        if len(found) != 1:
            return None
        login, entry = found[0]
        if entry["delivery"] != "none":
            return None
        trusted = [
            record
            for record in _records(f"{folder}/trust")
            if (record["broker"], record["server"]) == (login["broker"], server)
            and all(record[name] == entry.get(name) for name in _LAUNCH)
        ]
        words = command or entry["command"]
        if len(trusted) != 1 or not words:
            return None
        path = trusted[0]["path"] or os.environ.get("PATH", "")
        environment = clean_environment(entry["pass_environment"], path) | entry["environment"]
        return Child(words, environment, server)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # not the plain case: the proper look says what is wrong
    except LaunchError:
        return None  # the same


def _granted(session: dict[str, Any], server: str) -> dict[str, Any] | None:
    expires_at = session["expires_at"]
    if session["state"] != "active" or (expires_at and expires_at <= time.time()):
        return None
    entries: list[dict[str, Any]] = [
        item["entry"] for item in session["servers"] if item["entry"]["name"] == server and not item.get("refusal")
    ]
    return entries[0] if len(entries) == 1 else None


def _records(folder: str) -> list[dict[str, Any]]:
    names = [name for name in os.listdir(folder) if name.endswith(".json") and not name.startswith(".")]  # noqa: PTH208
    return [_record(f"{folder}/{name}") for name in names]


def _record(file: str) -> dict[str, Any]:
    with open(file, "rb") as opened:  # noqa: PTH123 - pathlib costs 5 ms
        record: dict[str, Any] = json.load(opened)
    return record
