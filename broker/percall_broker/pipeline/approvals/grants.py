"""The grant that an accepted request makes: what was asked for, for as long, beside what the agent may do already.

It waits for the person's device like every grant that needs no invite, and names all that the asking grant names of
that server too, so that one of the agent's two grants covers all that the other does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from percall_broker.log.canonical import canonical
from percall_broker.pipeline.administration.grants import new_id
from percall_broker.store.protocol import Statement

if TYPE_CHECKING:
    from percall_broker.model.records import Identity
    from percall_broker.store.protocol import Row


def granting(row: Row, by: Identity, now: float) -> list[Statement]:
    """The statements that make the grant of an approval that was just allowed. No server of that name: nothing is."""
    wanted = msgspec.json.decode(row["wanted"])
    grant = new_id()
    made = {
        "id": grant,
        "person": row["person"],
        "agent": row["agent"],
        "administrator": 0,
        "automation": 0,
        "may": "",
        "scope": canonical({"servers": {row["server"]: wanted["scope"]}}),
        "expires_at": int(now) + wanted["seconds"],
        "created_at": int(now),
        "created_by": by.grant.person,
        "claimable": 1,
    }
    return [
        Statement("known_server", {"name": row["server"]}, required=True),
        Statement("add_grant", made, required=True),
        Statement("set_used_by", {"id": row["id"], "used_by": grant}, required=True),
    ]
