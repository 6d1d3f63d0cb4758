"""Lean dataclasses do what the real ones do, judged by the real ones."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import pytest

from percall import lean


def classes(decorate: Any, a_field: Any) -> Any:
    class Point:
        x: int
        y: int = 2
        tags: dict[str, int] = a_field(default_factory=dict)

    return decorate(frozen=True, slots=True)(Point)


Lean: Any = classes(lean.dataclass, lean.field)
Real: Any = classes(dataclasses.dataclass, dataclasses.field)


def outcome(make: Any) -> object:
    try:
        point = make()
    except TypeError:
        return TypeError
    return point.x, point.y, point.tags


@pytest.mark.parametrize(
    ("values", "named"),
    [((1,), {}), ((1, 3), {"tags": {"a": 1}}), ((), {"x": 1}), ((), {}), ((1, 2, {}, 4), {}), ((1,), {"z": 1})],
)
def test_they_are_made_and_refused_alike(values: tuple[Any, ...], named: dict[str, Any]) -> None:
    assert outcome(lambda: Lean(*values, **named)) == outcome(lambda: Real(*values, **named))


def test_a_member_given_twice_is_refused() -> None:
    with pytest.raises(TypeError):
        Lean(1, 2, x=1)


def test_they_are_equal_frozen_and_shown_alike() -> None:
    assert Lean(1) == Lean(1, 2)
    assert Lean(1) != Lean(2)
    assert Lean(1) != Real(1)
    assert repr(Lean(1)) == "Point(x=1, y=2, tags={})"
    with pytest.raises(AttributeError):
        Lean(1).x = 2
    assert Lean(1).tags is not Lean(1).tags


def test_the_functions_of_dataclasses_work_on_them() -> None:
    assert dataclasses.replace(Lean(1), y=5) == Lean(1, 5)
    assert [f.name for f in dataclasses.fields(Lean)] == ["x", "y", "tags"]
    assert dataclasses.asdict(Lean(1)) == {"x": 1, "y": 2, "tags": {}}


def test_a_start_loads_neither_dataclasses_nor_typing() -> None:
    program = "import sys, percall.__main__, percall.run.launch, percall.run.shim; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    slow = {
        "dataclasses",
        "typing",
        "asyncio",
        "nacl",
        "h11",
        "ssl",
        "httpx",
        "typer",
        "keyring",
        "cryptography",
        "mcp",
    }
    assert not loaded & slow
