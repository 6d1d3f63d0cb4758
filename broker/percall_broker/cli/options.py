"""Options and arguments that several commands take."""

from __future__ import annotations

from typing import Annotated

import typer

from percall_broker.model.records import AREAS

Areas = Annotated[
    str,
    typer.Option("--may", help=f"What an automation may change, by commas: {', '.join(AREAS)}.", metavar="AREAS"),
]
Automation = Annotated[
    bool, typer.Option("--automation", help="A program's grant: it administers without anybody's passphrase.")
]
OnlyPerson = Annotated[str, typer.Option("--person", help="Only this person's.", metavar="NAME")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
ServerName = Annotated[str, typer.Argument(help="The server's name, as `percall run NAME` says it.", metavar="NAME")]


def may_change(areas: list[str]) -> str:
    """What an automation may do, in a sentence: one that was made without areas is easily taken for more."""
    if not areas:
        return f"An automation that may change nothing, only read. To let it change more: --may {','.join(AREAS)}."
    return f"An automation that may change {', '.join(areas)}."


def listed(text: str) -> list[str]:
    """What an option names by commas."""
    return [part.strip() for part in text.split(",") if part.strip()]
