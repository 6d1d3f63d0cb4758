"""`percall-broker status`: the broker at a glance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from percall_broker.cli import output
from percall_broker.cli.connection import administrator, under
from percall_broker.cli.options import Json
from percall_broker.cli.output import when
from percall_broker.model.counting import counted

if TYPE_CHECKING:
    from collections.abc import Iterator


def status(as_json: Json = False) -> None:
    """The broker at a glance. What runs, what ends soon, what waits, and what is stopped."""
    with administrator() as client:
        row = client.json("GET", under("status"))
    output.one(row, as_json=as_json, text="\n".join(_lines(row)))


def _lines(row: dict[str, Any]) -> Iterator[str]:
    """What is well in a line each; what is not gets a line of its own that begins with `!`."""
    yield f"percall-broker {row['version']}, {row['store']} at schema {row['schema']:04}"
    for replica in row["replicas"]:
        since = when(replica["started_at"])
        yield f"  replica {replica['id']} at {replica['url']}, {replica['version']}, since {since}"
    yield f"  keys from {row['key_source']}: {', '.join(row['key_encryption_keys']) or 'none in use'}"
    counts = (counted(row[f"{noun}s"], noun) for noun in ("device", "grant", "server"))
    people = counted(row["people"], "person", "people")
    yield f"  {people}, {', '.join(counts)}; {counted(row['open_calls'], 'open call')}"
    for one in row["automations"]:
        yield f"  automation {one['name']} ({one['grant']}) may change {', '.join(one['may']) or 'nothing'}"
    yield f"  last backup: {when(row['last_backup_at'])}"
    for one in row["webhooks"]:
        yield f"  webhook {one['webhook']} at {one['origin']}: {counted(one['waiting'], 'event')} waiting"
    yield from (f"! {line}" for line in _troubles(row))


def _troubles(row: dict[str, Any]) -> Iterator[str]:
    for name, code in row["problems"].items():
        yield f"not ready: {name} ({code})"
    if row["key_source_problem"]:
        yield f"the source of keys: {row['key_source_problem']}"
    if row["grants_to_review"]:
        yield f"{counted(row['grants_to_review'], 'grant')} to review after a restore: percall-broker review show"
    for one in row["freezes"]:
        named = "everything" if one["kind"] == "all" else f"{one['kind']} {one['name']}"
        yield f"frozen: {named}, by {one['by']} since {when(one['created_at'])}{_because(one['reason'])}"
    for one in row["expiring_keys"]:
        whose = f"{one['person']}'s key of {one['server']}" if one["person"] else f"the key of {one['server']}"
        yield f"{whose} ends {when(one['expires_at'])}: percall-broker server rotate-key {one['server']}"
    for one in row["expiring_grants"]:
        yield f"grant {one['id']} of {one['person']} ({one['agent']}) ends {when(one['expires_at'])}"
    if row["unknown_outcomes_in_a_day"]:
        yield f"{counted(row['unknown_outcomes_in_a_day'], 'call')} of the last day ended with an unknown outcome"
    for one in row["webhooks"]:
        if one["problem"]:
            yield f"webhook {one['webhook']}: {counted(one['failed_attempts'], 'attempt')} failed; {one['problem']}"


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""
