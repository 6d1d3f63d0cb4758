"""`percall run`, as the help shows it. `percall.__main__` runs it before this module's library is imported."""

from __future__ import annotations

from typing import Annotated

import typer


def run(
    server: Annotated[str, typer.Argument(metavar="SERVER", help="A server that this agent's grant covers.")],
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="[--] [COMMAND]...", help="Launch this instead of the entry's command."),
    ] = None,
    agent: Annotated[
        str | None, typer.Option("--agent", metavar="NAME", help="Which agent's grant to use.  [default: default]")
    ] = None,
) -> None:
    """Run an MCP server behind the gate. It is what goes into a client's config, as the server's command."""
    from percall import run as loop  # noqa: PLC0415 - as in `percall.__main__`

    raise typer.Exit(loop.main(server, agent, command or None))
