"""`percall-broker webhook …`: endpoints that are told what happens."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from percall.errors import UsageError
from percall_broker.cli import output
from percall_broker.cli.connection import administrator, under
from percall_broker.cli.options import Json

webhooks = typer.Typer(help="Endpoints that are told what happens.", no_args_is_help=True)

_COLUMNS = ("webhook", "origin", "format", "waiting", "failed_attempts", "retry_at", "problem")
Webhook = Annotated[str, typer.Argument(help="The webhook's id.", metavar="WEBHOOK")]


@webhooks.command()
def add(
    url: Annotated[
        str, typer.Argument(help="Where events are posted: https, or http on loopback.", metavar="URL")
    ] = "",
    url_stdin: Annotated[
        bool, typer.Option("--url-stdin", help="Read the URL from standard input, where it holds a secret.")
    ] = False,
    form: Annotated[
        str, typer.Option("--format", metavar="json|slack", help="An event as it is, or as a message for a channel.")
    ] = "json",
    as_json: Json = False,
) -> None:
    """Add an endpoint. Prints the key that it checks signatures with, once."""
    if bool(url) == url_stdin:
        raise UsageError("cli.url", "One URL is needed.", "Give it as an argument, or by --url-stdin.")
    where = sys.stdin.read().strip() if url_stdin else url
    with administrator() as client:
        made = client.json("POST", under("webhooks"), value={"url": where, "format": form})
    text = (
        f"Webhook {made['webhook']} at {made['origin']}. Its key, shown this once:\n  {made['key']}\n"
        f"Next: percall-broker webhook test {made['webhook']}"
    )
    output.one(made, as_json=as_json, text=text)


@webhooks.command("list")
def list_webhooks(as_json: Json = False) -> None:
    """The endpoints. How many events wait for each, and why the last attempt failed."""
    with administrator() as client:
        rows = client.json("GET", under("webhooks"))
    output.lines(rows, as_json=as_json, columns=_COLUMNS, empty="No webhooks. Add one: percall-broker webhook add")


@webhooks.command()
def remove(webhook: Webhook, as_json: Json = False) -> None:
    """Send no more events there; those that wait are dropped."""
    with administrator() as client:
        row = client.json("DELETE", under("webhooks", webhook))
    output.one(row, as_json=as_json, text=f"{webhook} is removed.")


@webhooks.command("test")
def send_test(webhook: Webhook, as_json: Json = False) -> None:
    """Send a test event now, and say how it went."""
    with administrator() as client:
        row = client.json("POST", under("webhooks", webhook, "test"))
    said = "was delivered." if row["delivered"] else f"was not delivered: {row['problem']}"
    output.one(row, as_json=as_json, text=f"The test event {row['event']} {said}")
    if not row["delivered"]:
        raise typer.Exit(output.FAILED_EXIT_CODE)
