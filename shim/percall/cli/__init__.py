"""The commands of the laptop beside `run`: thin functions that call `identity` and `home` and print what came of it."""

from __future__ import annotations

from typing import Annotated

import typer
from typer.main import get_command

from percall import __version__
from percall.cli import (
    add,
    adopt,
    agent,
    approvals,
    catalog,
    doctor,
    key,
    log,
    login,
    passphrase,
    run,
    scan,
    status,
    trust,
    unlock,
)

app = typer.Typer(
    name="percall",
    help="Per-call credentials for MCP servers: the key stays in the broker.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"percall {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    del version


app.command("run", context_settings={"allow_interspersed_args": False})(run.run)
app.command("login")(login.login)
app.command("status")(status.status)
app.command("log")(log.log)
app.command("approvals")(approvals.approvals)
app.command("request")(approvals.request)
app.command("trust")(trust.trust)
app.add_typer(agent.agents, name="agent")
app.add_typer(key.keys, name="key")
app.command("scan")(scan.scan)
app.command("adopt")(adopt.adopt)
app.command("undo")(adopt.undo)
app.command("catalog")(catalog.catalog)
app.command("doctor")(doctor.doctor)
app.command("add")(add.add)
app.command("remove")(add.remove)
app.command("passphrase")(passphrase.passphrase)
app.command("unlock")(unlock.unlock)
app.command("lock")(unlock.lock)

tree = get_command(app)
"""What runs: each command with the options that its function says."""


def main() -> int:
    """Runs the command that argv names. Raises PercallError; ends the process itself where typer does."""
    tree()
    return 0
