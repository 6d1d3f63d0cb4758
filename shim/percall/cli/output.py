"""How the commands print: people's text without control characters, JSON with one object a line, times in UTC."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import typer

from percall.errors import plain

if TYPE_CHECKING:
    from percall import wire
    from percall.errors import PercallError


def say(text: str = "") -> None:
    """One line for a person."""
    typer.echo(plain(text))


def say_json(value: Any) -> None:
    """One JSON object on one line."""
    typer.echo(json.dumps(value, ensure_ascii=True, separators=(",", ":")))


def when(seconds: float) -> str:
    """A time for a person; as a number, where it is none that a calendar knows."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
    except (OverflowError, OSError, ValueError):
        return str(seconds)


def expiry(seconds: int) -> str:
    """When a grant ends, for a person."""
    return f"expires {when(seconds)}" if seconds else "never expires"


def counted(number: int, noun: str) -> str:
    """`1 warning`, `2 warnings`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def table(rows: list[tuple[str, ...]]) -> None:
    """Aligned columns."""
    shown = [tuple(plain(cell) for cell in row) for row in rows]
    widths = [max(len(row[column]) for row in shown) for column in range(len(shown[0]))] if shown else []
    for row in shown:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def say_error(text: str) -> None:
    """One line for a person, on standard error."""
    typer.echo(plain(text), err=True)


def error(problem: PercallError | wire.Refusal | None) -> dict[str, str] | None:
    """An error, or a refusal, as JSON listings show it; None for none."""
    if problem is None:
        return None
    return {"code": problem.code, "message": problem.message, "next_step": problem.next_step}
