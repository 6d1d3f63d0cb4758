"""The earliest start, before most of the shim is even imported: the child of a server without a key, or for a remote
server the helper that reads the keyring, since a remote server's first answer waits for the device key.

It looks at the cached records as plain JSON and starts only in the plain case: one active grant that covers the
server, a launch that is trusted word for word. In every other case, and after it, the proper look has the last word.
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

    from percall.system.posix import Fork

_LAUNCH = ("command", "environment", "pass_environment")


class Started:
    """What was started: the child, or the helper that reads a grant's secrets, or nothing."""

    __slots__ = ("_grant", "_reader", "child")

    def __init__(self, child: Child | None = None, reader: Fork | None = None, grant: str = "") -> None:
        self.child = child
        self._reader = reader
        self._grant = grant

    def reader_of(self, grant: str) -> Fork | None:
        """The helper, if it reads what belongs to this grant."""
        if self._grant != grant:
            self.undo()
        return self._reader

    def undo(self) -> None:
        """End it."""
        if self.child is not None:
            self.child.release()
        if self._reader is not None:
            self._reader.kill()
            self._reader.stdout.close()
            self._reader.wait()
            self._reader = None


def start(server: str, agent: str | None, command: list[str] | None) -> Started:
    """What can be started already."""
    try:
        folder = os.environ.get("PERCALL_HOME") or os.path.expanduser("~/.percall")  # noqa: PTH111 - pathlib costs 5 ms
        logins = [record for record in _records(f"{folder}/logins") if record["agent"] == (agent or "default")]
        sessions = [(login, _granted(_record(f"{folder}/sessions/{login['grant']}.json"), server)) for login in logins]
        found = [(login, entry) for login, entry in sessions if entry is not None]
        if len(found) == 1:
            login, entry = found[0]
            if entry["delivery"] == "none":
                return Started(_child(folder, login["broker"], entry, command))
            if entry["delivery"] == "relay" and not command:
                return Started(reader=_reader(login), grant=login["grant"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, LaunchError):
        pass  # not the plain case: the proper look says what is wrong
    return Started()


def _child(folder: str, broker: str, entry: dict[str, Any], command: list[str] | None) -> Child | None:
    """Raises LaunchError, and what a strange record leads to."""
    trusted = [
        record
        for name in os.listdir(f"{folder}/trust")  # noqa: PTH208 - as above
        for record in _records(f"{folder}/trust/{name}")
        if (record["broker"], record["server"]) == (broker, entry["name"])
        and all(record[name] == entry.get(name) for name in _LAUNCH)
    ]
    words = command or entry["command"]
    if len(trusted) != 1 or not words:
        return None
    path = trusted[0]["path"] or os.environ.get("PATH", "")
    environment = clean_environment(entry["pass_environment"], path) | entry["environment"]
    return Child(words, environment, entry["name"])


def _reader(login: dict[str, Any]) -> Fork | None:
    """Raises OSError, and what a strange record leads to."""
    from percall import identity  # noqa: PLC0415 - a child without a key does not wait for it

    return identity.fork_reader(login["grant"], login["keyring"])


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
