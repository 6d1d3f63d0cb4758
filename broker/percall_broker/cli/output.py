"""How the commands print: aligned for people, one JSON object a line for scripts."""

from __future__ import annotations

import csv
import json
import re
import sys
import time
from typing import Any

from percall_broker.model.marking import visible, visible_lines
from percall_broker.model.moments import in_full, to_the_minute

Row = dict[str, Any]
FAILED_EXIT_CODE = 1
"""What a command ends with that did its work, and found that something fails."""
_WIDE = 80
_ID = re.compile(r"[A-Za-z0-9_-]{22}")  # 16 bytes in base64url
_FORMULAS = frozenset("=+-@\uff1d\uff0b\uff0d\uff20")
"""What a cell that spreadsheets run begins with; some of them read the wide forms as well."""


def lines(rows: list[Row], *, as_json: bool, columns: tuple[str, ...], empty: str) -> None:
    """A listing."""
    if as_json:
        for row in rows:
            _write_json(row)
        return
    if not rows:
        write(empty)
        return
    cells = [[cell(column, row.get(column)) for column in columns] for row in rows]
    widths = [max(len(column), *(len(line[i]) for line in cells)) for i, column in enumerate(columns)]
    write("  ".join(column.upper().ljust(width) for column, width in zip(columns, widths, strict=True)).rstrip())
    for line in cells:
        write("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def one(row: Row, *, as_json: bool, text: str = "") -> None:
    """One object: its members below one another, or `text` where a sentence says it better."""
    if as_json:
        _write_json(row)
    elif text:
        write(text)
    else:
        width = max(len(name) for name in row)
        for name, value in row.items():
            first, *more = _paragraph(name, value)
            write(f"{name.ljust(width)}  {first}")
            for line in more:
                write(f"{' ' * width}  {line}")


def comma_separated(rows: list[Row], columns: tuple[str, ...]) -> None:
    """CSV with a header (RFC 4180), a line for each row. A cell that a spreadsheet would run gets an apostrophe."""
    writer = csv.writer(sys.stdout)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_harmless(visible(str(row.get(column, "")))) for column in columns])


def when(seconds: int) -> str:
    """A moment, in a sentence; 0 is never."""
    return in_full(seconds) if seconds else "never"


def by_the_clock(seconds: int) -> str:
    """A moment within the next minutes, as the clock on this wall shows it."""
    return time.strftime("%H:%M", time.localtime(seconds))


def write(text: str) -> None:
    """A text on standard output; characters that would drive a terminal, or would not be seen, are named."""
    sys.stdout.write(visible_lines(text) + "\n")
    sys.stdout.flush()


def aside(text: str) -> None:
    """What a person should know beside an answer: on standard error, so that no script reads it as part of that."""
    sys.stderr.write(visible_lines(text) + "\n")
    sys.stderr.flush()


def _write_json(row: Row) -> None:
    """ASCII alone: whatever is in it, it is one line, JSON, and nothing to a terminal."""
    sys.stdout.write(json.dumps(row).replace("\x7f", "\\u007f") + "\n")
    sys.stdout.flush()


def _harmless(cell: str) -> str:
    """Ids stay as they are, also those that begin with a hyphen: what they are looked up by."""
    is_formula = cell.lstrip(" ")[:1] in _FORMULAS and not _ID.fullmatch(cell)
    return "'" + cell if is_formula else cell


def told(value: Any) -> str:
    """A value of an answer, in one line, whatever is in it."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return visible(", ".join(value))
    if isinstance(value, (dict, list)):
        return visible(json.dumps(value, ensure_ascii=False))
    return visible(str(value))


def with_what_it_may(grants: list[Row]) -> list[Row]:
    """Grants for a table: that one administers stands where an automation's areas do."""
    return [
        {**row, "may": ["everything"] if row["administrator"] and not row["automation"] else row["may"]}
        for row in grants
    ]


def _paragraph(name: str, value: Any) -> list[str]:
    """A member of an object: what is a list of longer things has a line for each."""
    if isinstance(value, list) and value and len(told(value)) > _WIDE:
        return [told(item) for item in value]
    return [cell(name, value)]


def cell(name: str, value: Any) -> str:
    """A member of a row, as a listing shows it."""
    if value in (None, "", [], {}):
        return "-"
    if name.endswith("_at"):
        return f"{to_the_minute(value)}Z" if value else "never"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict) and name == "frozen":
        return f"by {value['by']}"
    if isinstance(value, dict) and name == "servers":
        return visible("; ".join(f"{server}: {_scope(scope)}" for server, scope in value.items()))
    return told(value)


def _scope(scope: dict[str, list[str]]) -> str:
    parts = [("" if kind == "tools" else f"{kind} ") + ",".join(found) for kind, found in scope.items() if found]
    return " ".join(parts)
