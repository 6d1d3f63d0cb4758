"""The command tree of `percall-broker`, in the order of its help."""

from __future__ import annotations

from typing import Annotated

import typer
from typer.main import get_command

from percall import __version__
from percall_broker.cli import machine, output
from percall_broker.cli.approval import approvals
from percall_broker.cli.backup import backups, migrate
from percall_broker.cli.console import console, passkeys
from percall_broker.cli.device import devices
from percall_broker.cli.freeze import freeze, unfreeze
from percall_broker.cli.grant import grants
from percall_broker.cli.group import groups
from percall_broker.cli.key import keys
from percall_broker.cli.log import calls
from percall_broker.cli.person import people
from percall_broker.cli.policy import policies
from percall_broker.cli.recipe import ships
from percall_broker.cli.review import reviews
from percall_broker.cli.server import servers
from percall_broker.cli.status import status
from percall_broker.cli.webhook import webhooks

application = typer.Typer(
    name="percall-broker",
    help="Percall's broker: it holds the upstream keys, decides each call, and records it.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
application.command("init")(machine.init)
application.command("invite")(machine.invite)
application.command("serve")(machine.serve)
application.command("migrate")(migrate)
application.command("status")(status)
application.command("freeze")(freeze)
application.command("unfreeze")(unfreeze)
application.command("console")(console)
application.add_typer(servers, name="server")
application.add_typer(ships, name="recipe")
application.add_typer(grants, name="grant")
application.add_typer(people, name="person")
application.add_typer(devices, name="device")
application.add_typer(groups, name="group")
application.add_typer(policies, name="policy")
application.add_typer(approvals, name="approval")
application.add_typer(calls, name="log")
application.add_typer(webhooks, name="webhook")
application.add_typer(keys, name="key")
application.add_typer(backups, name="backup")
application.add_typer(reviews, name="review")
application.add_typer(passkeys, name="passkey")


def _version(wanted: bool) -> None:
    if wanted:
        output.write(f"percall-broker {__version__}")
        raise typer.Exit


@application.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Percall's broker: it holds the upstream keys, decides each call, and records it."""


tree = get_command(application)
"""What runs: each command with the options that its function says."""
