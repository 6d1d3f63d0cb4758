"""What is gated, and what the grant shows: which methods need the broker's decision, and which list entries appear.

Pure functions over frames. Filtering a list is a courtesy to the model; each call is decided anyway.
"""

from __future__ import annotations

import re
from functools import lru_cache

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Patterns(Protocol):
        """What a grant names of one server."""

        @property
        def tools(self) -> tuple[str, ...]:
            """Of its tools."""

        @property
        def prompts(self) -> tuple[str, ...]:
            """Of its prompts."""

        @property
        def resources(self) -> tuple[str, ...]:
            """Of its resources' URIs."""


_GATED = frozenset(
    {
        "tools/call",
        "resources/read",
        "prompts/get",
        "completion/complete",
        "resources/subscribe",
        "subscriptions/listen",
    }
)
LONG_LIVED = "subscriptions/listen"
"""The one gated request that stays open for as long as the client likes."""

SAMPLING = "sampling/createMessage"
OBSERVED = frozenset({SAMPLING, "elicitation/create", "roots/list"})
"""Requests of a server to the client that are counted in the call's settlement."""

LISTS = {"tools/list": "tools", "prompts/list": "prompts", "resources/list": "resources"}
_TEMPLATES = "resources/templates/list"
TASKS = "tasks/list"
LIST_METHODS = frozenset({*LISTS, _TEMPLATES})


def is_gated(method: str) -> bool:
    """Whether requests of this method go to the broker first, whatever their id."""
    return method in _GATED or method.startswith("tasks/")


def filter_list(method: str, result: Any, granted: Patterns | None) -> Any | None:
    """The result of a list method with only what the grant names, or None when nothing has to change.

    A list made for one grant must not be kept for others, so a `cacheScope` becomes private.
    """
    if not isinstance(result, dict):
        return None
    changed = dict(result)
    if method == _TEMPLATES:
        member, shown = "resourceTemplates", granted is not None and bool(granted.resources)
        if isinstance(result.get(member), list) and not shown:
            changed[member] = []
    else:
        member = LISTS[method]
        items = result.get(member)
        if isinstance(items, list):
            patterns: tuple[str, ...] = getattr(granted, member) if granted is not None else ()
            named = "uri" if method == "resources/list" else "name"
            changed[member] = [item for item in items if _is_shown(item, named, patterns)]
    if "cacheScope" in result:
        changed["cacheScope"] = "private"
    return changed if changed != result else None


def matches(pattern: str, name: str) -> bool:
    """Whether a grant's pattern covers a name: `*` stands for any characters, everything else for itself."""
    return _compiled(pattern).fullmatch(name) is not None


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    first, *others = map(re.escape, pattern.split("*"))
    if not others:
        return re.compile(first, re.DOTALL)
    *middle, last = others
    # Each part where it first comes: tried at other places too, a name of some hundred letters would take seconds.
    return re.compile(f"{first}{''.join(f'(?>.*?{part})' for part in middle)}.*{last}", re.DOTALL)


def _is_shown(item: Any, named: str, patterns: tuple[str, ...]) -> bool:
    name = item.get(named) if isinstance(item, dict) else None
    return isinstance(name, str) and any(matches(pattern, name) for pattern in patterns)


def requested_by_server(result: Any) -> list[str]:
    """The methods that an `input_required` result asks of the client (2026-07-28's way of asking)."""
    requests = result.get("inputRequests") if isinstance(result, dict) else None
    values = requests.values() if isinstance(requests, dict) else requests if isinstance(requests, list) else ()
    return [str(value.get("method")) for value in values if isinstance(value, dict)]
