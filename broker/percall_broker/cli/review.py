"""`percall-broker review …`: after a restore, an administrator says which grants work again."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from percall.errors import UsageError
from percall_broker.cli import output
from percall_broker.cli.connection import administrator, under
from percall_broker.cli.options import Json
from percall_broker.model.counting import counted
from percall_broker.model.records import MOST_TOGETHER

reviews = typer.Typer(
    help="After a restore: which of the backup's grants work again.", no_args_is_help=True, rich_markup_mode=None
)

_COLUMNS = ("grant", "person", "agent", "device", "expires_at", "calls", "last_call", "servers", "may")


@reviews.command()
def show(as_json: Json = False) -> None:
    """The grants that wait, with their use up to the backup. What happened after it is not known here."""
    with administrator() as client:
        review = client.json("GET", under("review"))
    if as_json:
        output.one(review, as_json=True)
        return
    if not review["restored_at"]:
        output.write("This store was not restored from a backup.")
        return
    output.write(
        f"Restored {output.when(review['restored_at'])} from a backup of {output.when(review['backup_created_at'])}."
    )
    output.write(f"The last thing that it knows of is of {review['log_until']}. Make again what was done after that:")
    output.write("revocations, suspensions, new keys, removed servers and people.")
    waiting = output.with_what_it_may(review["grants"])
    output.lines(waiting, as_json=False, columns=_COLUMNS, empty="No grant waits for a review.")


@reviews.command()
def resume(
    grant: Annotated[list[str] | None, typer.Argument(help="The grants' ids.", metavar="[GRANT…]")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that wait, as `review show` lists them now.")] = False,
    as_json: Json = False,
) -> None:
    """Let grants of a restored store work again. What should not: `grant revoke`."""
    if bool(grant) == everything:
        raise UsageError("review.which", "Name the grants, or --all.", "See: percall-broker review show.")
    with administrator() as client:
        waiting = client.json("GET", under("review"))["grants"] if everything else []
        named = [row["grant"] for row in waiting] if everything else grant or []
        done: dict[str, Any] = {"resumed": [], "waiting": 0}
        for first in range(0, len(named), MOST_TOGETHER):
            form = {"grants": named[first : first + MOST_TOGETHER]}
            answer = client.json("POST", under("review", "resume"), value=form)
            done = {"resumed": done["resumed"] + answer["resumed"], "waiting": answer["waiting"]}
    text = f"Working again: {counted(len(done['resumed']), 'grant')}. Still waiting: {done['waiting']}."
    output.one(done, as_json=as_json, text=text if named else "No grant waits for a review.")
