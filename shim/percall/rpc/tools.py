"""What a server says a tool is, in one form whose digest both sides can compare: the model acts on it, so it is pinned.

Everything of a definition counts but `_meta` and `icons`, unknown members too: a client may show the model any of it.
"""

from __future__ import annotations

import json

from percall.errors import WireError

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    from typing import Any

METHOD = "tools/list"
MOST = 1000
"""The most tools of one server that are pinned; what comes after them is not shown."""
MAX_BYTES = 128 * 1024
"""The longest definition that is pinned."""
MAX_NAME_CHARACTERS = 256
_IGNORED = frozenset({"_meta", "icons"})


def canonical(tool: Any) -> str:
    """A definition's canonical text. Raises WireError for one that cannot be pinned."""
    name = tool.get("name") if isinstance(tool, dict) else None
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_CHARACTERS or "\0" in name:
        raise WireError("tool.name", "A tool has no name that could be pinned.")
    kept = {member: value for member, value in tool.items() if member not in _IGNORED}
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    if len(text.encode()) > MAX_BYTES:
        raise WireError("tool.long", f"The definition of a tool is longer than {MAX_BYTES} bytes.")
    return text


def listed(result: Any) -> list[Any] | None:
    """The tools of a `tools/list` result; None where two programs could read different ones."""
    if not isinstance(result, dict) or any(name.lower() == "tools" and name != "tools" for name in result):
        return None
    tools = result.get("tools", [])
    return tools if isinstance(tools, list) else None
