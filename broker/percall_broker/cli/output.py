"""How the commands print: aligned for people, one JSON object a line for scripts."""

from __future__ import annotations

import csv
import json
import sys
import time
from typing import Any

Row = dict[str, Any]


def lines(rows: list[Row], *, as_json: bool, columns: tuple[str, ...], empty: str) -> None:
    """A listing."""
    if as_json:
        for row in rows:
            write(json.dumps(row, ensure_ascii=False))
        return
    if not rows:
        write(empty)
        return
    cells = [[_cell(column, row.get(column)) for column in columns] for row in rows]
    widths = [max(len(column), *(len(line[i]) for line in cells)) for i, column in enumerate(columns)]
    write("  ".join(column.upper().ljust(width) for column, width in zip(columns, widths, strict=True)).rstrip())
    for line in cells:
        write("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def one(row: Row, *, as_json: bool, text: str = "") -> None:
    """One object: its members below one another, or `text` where a sentence says it better."""
    if as_json:
        write(json.dumps(row, ensure_ascii=False))
    elif text:
        write(text)
    else:
        width = max(len(name) for name in row)
        for name, value in row.items():
            write(f"{name.ljust(width)}  {_cell(name, value)}")


def comma_separated(rows: list[Row], columns: tuple[str, ...]) -> None:
    """CSV with a header (RFC 4180). A cell that a spreadsheet would run as a formula gets an apostrophe."""
    writer = csv.writer(sys.stdout)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_harmless(str(row.get(column, ""))) for column in columns])


def counted(number: int, noun: str) -> str:
    """`1 grant`, `2 grants`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def write(text: str) -> None:
    """One line of standard output; control characters that would drive a terminal are shown, not sent."""
    sys.stdout.write("".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text) + "\n")
    sys.stdout.flush()


def _harmless(cell: str) -> str:
    return "'" + cell if cell[:1] in {"=", "+", "-", "@", "\t", "\r"} else cell


def _cell(name: str, value: Any) -> str:  # noqa: PLR0911 - one line for each kind of cell
    if value in (None, "", [], {}):
        return "-"
    if name.endswith("_at"):
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(value)) if value else "never"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict) and name == "frozen":
        return f"by {value['by']}"
    if isinstance(value, dict) and name == "servers":
        return "; ".join(f"{server}: {_scope(scope)}" for server, scope in value.items())
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _scope(scope: dict[str, list[str]]) -> str:
    parts = [("" if kind == "tools" else f"{kind} ") + ",".join(found) for kind, found in scope.items() if found]
    return " ".join(parts)
