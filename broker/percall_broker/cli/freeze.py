"""`percall-broker freeze` and `unfreeze`: the brake."""

from __future__ import annotations

from typing import Annotated

import typer

from percall.errors import UsageError
from percall_broker.cli import output
from percall_broker.cli.connection import administrator, under
from percall_broker.cli.options import Json

_COLUMNS = ("kind", "name", "by", "created_at", "reason")
Person = Annotated[str, typer.Option(help="All that a person may do.", metavar="NAME")]
Device = Annotated[str, typer.Option(help="All that a device may do, by its id or its name.", metavar="DEVICE")]
Server = Annotated[str, typer.Option(help="A server, for everybody.", metavar="NAME")]
Everything = Annotated[bool, typer.Option("--all", help="Every call of everybody.")]


def freeze(
    person: Person = "",
    device: Device = "",
    server: Server = "",
    everything: Everything = False,
    reason: Annotated[str, typer.Option(help="Why: shown to those who are refused.", metavar="TEXT")] = "",
    as_json: Json = False,
) -> None:
    """Refuse calls from the next one on, until unfreeze. Open streams are cut. Without options: what is frozen.

    Administrators can still act under --all, since somebody must lift it.
    """
    if not (person or device or server or everything):
        with administrator() as client:
            rows = client.json("GET", under("freezes"))
        output.lines(rows, as_json=as_json, columns=_COLUMNS, empty="Nothing is frozen.")
        return
    form, shown = _named(person, device, server, everything=everything)
    with administrator() as client:
        row = client.json("POST", under("freezes"), value={**form, "reason": reason})
    output.one(row, as_json=as_json, text=f"Frozen: {shown}. The next call is refused, and open streams are cut.")


def unfreeze(
    person: Person = "",
    device: Device = "",
    server: Server = "",
    everything: Everything = False,
    as_json: Json = False,
) -> None:
    """Lift a freeze."""
    form, shown = _named(person, device, server, everything=everything)
    with administrator() as client:
        row = client.json("POST", under("freezes", "lift"), value=form)
    output.one(row, as_json=as_json, text=f"Not frozen any more: {shown}.")


def _named(person: str, device: str, server: str, *, everything: bool) -> tuple[dict[str, str], str]:
    given = [(kind, name) for kind, name in (("person", person), ("device", device), ("server", server)) if name]
    if len(given) + everything != 1:
        raise UsageError("cli.freeze", "Name one thing.", "Write --person P, --device D, --server S or --all.")
    kind, name = given[0] if given else ("all", "")
    shown = {"all": "everything", "person": name}.get(kind, f"the {kind} {name}")
    return {"kind": kind, "name": name}, shown
