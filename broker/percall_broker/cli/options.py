"""Options and arguments that several commands take."""

from __future__ import annotations

from typing import Annotated

import typer

Areas = Annotated[str, typer.Option("--may", help="What an automation may change, by commas.", metavar="AREAS")]
Automation = Annotated[
    bool, typer.Option("--automation", help="A program's grant: it administers without anybody's passphrase.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
ServerName = Annotated[str, typer.Argument(help="The server's name, as `percall run NAME` says it.", metavar="NAME")]


def listed(text: str) -> list[str]:
    """What an option names by commas."""
    return [part.strip() for part in text.split(",") if part.strip()]
