"""Frozen dataclasses that cost a start next to nothing: what we use of `dataclasses`, without its code generator.

`dataclasses` and its imports take 25 ms of each `percall run`. To a type checker these *are* dataclasses, and the
functions of `dataclasses` (replace, fields) work on them: the real fields are made when someone asks.
"""

from __future__ import annotations

__all__ = ["dataclass", "field", "members"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import dataclass, field
    from typing import Any
else:

    def field(*, default_factory: Callable[[], Any]) -> _Factory:
        """A member whose default is made anew for each object."""
        return _Factory(default_factory)

    def dataclass(*, frozen: bool, slots: bool) -> Callable[[type], type]:
        """Make a class a frozen dataclass; members with defaults come last."""
        if not (frozen and slots):
            raise TypeError("Only frozen dataclasses with slots are imitated.")
        return _make


def members(kind: type) -> dict[str, str]:
    """A dataclass's members, in order, each with its type as it is written."""
    annotations: dict[str, str] = kind.__annotations__
    return annotations


class _Factory:
    """Stands for a default until the class is made."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make


def _make(kind: Any) -> Any:  # noqa: C901 - the methods of one class, beside one another
    """The class itself, with the methods of a frozen dataclass."""
    names = tuple(kind.__annotations__)
    defaults = {name: kind.__dict__[name] for name in names if name in kind.__dict__}
    factories = {name: default.make for name, default in defaults.items() if isinstance(default, _Factory)}
    plain = {name: default for name, default in defaults.items() if name not in factories}
    for name in factories:
        delattr(kind, name)
    total = len(names)
    required = total - len(defaults)

    def __init__(self: Any, *values: Any, **named: Any) -> None:  # noqa: N807
        state = self.__dict__
        if len(values) + len(named) != total:
            state.update(plain)
            for name, make in factories.items():
                if name not in named:
                    state[name] = make()
        state.update(zip(names, values, strict=False))
        state.update(named)
        if len(state) != total or len(values) > total or len(values) + len(named) < required:
            raise TypeError(f"{kind.__name__}: members missing, unknown or given twice.")

    def __eq__(self: Any, other: object) -> Any:  # noqa: N807
        return self.__dict__ == other.__dict__ if type(other) is kind else NotImplemented

    def __hash__(self: Any) -> int:  # noqa: N807
        return hash(tuple(getattr(self, name) for name in names))

    def __repr__(self: Any) -> str:  # noqa: N807
        return f"{kind.__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    def refuse(self: Any, name: str, *_value: Any) -> None:  # noqa: ARG001
        raise AttributeError(f"{kind.__name__}.{name} cannot be changed.")

    kind.__init__, kind.__eq__, kind.__hash__ = __init__, __eq__, __hash__
    if "__repr__" not in kind.__dict__:
        kind.__repr__ = __repr__
    kind.__setattr__ = kind.__delattr__ = refuse
    setattr(kind, "__match_args__", names)  # noqa: B010 - a type checker knows better
    kind.__dataclass_fields__ = _RealFields(plain, factories)
    return kind


class _RealFields:
    """`__dataclass_fields__`, made by `dataclasses` itself when it is first asked for."""

    def __init__(self, plain: dict[str, Any], factories: dict[str, Callable[[], Any]]) -> None:
        self._plain = plain
        self._factories = factories

    def __get__(self, _instance: object, kind: Any) -> dict[str, Any]:
        import dataclasses  # noqa: PLC0415 - what this module is there to avoid

        made = {name: dataclasses.field(default_factory=make) for name, make in self._factories.items()}
        twin: Any = type(kind.__name__, (), {"__annotations__": dict(kind.__annotations__), **self._plain, **made})
        fields: dict[str, Any] = dataclasses.dataclass(twin).__dataclass_fields__
        kind.__dataclass_fields__ = fields
        return fields
