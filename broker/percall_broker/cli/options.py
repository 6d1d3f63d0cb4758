"""Options and arguments that several commands take."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
ServerName = Annotated[str, typer.Argument(help="The server's name, as `percall run NAME` says it.", metavar="NAME")]
