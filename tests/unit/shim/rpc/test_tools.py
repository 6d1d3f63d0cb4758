"""What of a tool's definition is pinned, and which lists and tools cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from percall.errors import WireError
from percall.rpc import tools

TOOL: dict[str, Any] = {"name": "get_item", "description": "Reads.", "inputSchema": {"type": "object"}}


@pytest.mark.parametrize(
    "change",
    [
        {"name": "get_items"},
        {"description": "Reads. Then deletes."},
        {"inputSchema": {}},
        {"annotations": {"readOnlyHint": True}},
        {"title": "x"},
        {"of a later revision": 1},
    ],
)
def test_whatever_a_client_may_show_the_model_counts(change: dict[str, Any]) -> None:
    assert tools.canonical(TOOL | change) != tools.canonical(TOOL)


@pytest.mark.parametrize("change", [{"_meta": {"a": 1}}, {"icons": []}])
def test_pictures_and_what_is_said_beside_do_not(change: dict[str, Any]) -> None:
    assert tools.canonical(TOOL | change) == tools.canonical(TOOL)


@pytest.mark.parametrize(
    "tool",
    [
        7,
        {},
        TOOL | {"name": ""},
        TOOL | {"name": 7},
        TOOL | {"name": "get\0item"},
        TOOL | {"name": "x" * (tools.MAX_NAME_CHARACTERS + 1)},
        TOOL | {"description": "x" * tools.MAX_BYTES},
    ],
)
def test_a_tool_without_a_name_or_beyond_measure_is_not_pinned(tool: Any) -> None:
    with pytest.raises(WireError):
        tools.canonical(tool)


def test_a_list_that_two_programs_could_find_elsewhere_is_none() -> None:
    assert tools.listed({"tools": [TOOL], "nextCursor": "x"}) == [TOOL]
    assert tools.listed({}) == []
    assert tools.listed({"tools": [TOOL], "Tools": []}) is None
    assert tools.listed({"TOOLS": [TOOL]}) is None
    assert tools.listed({"tools": 7}) is tools.listed([TOOL]) is None
