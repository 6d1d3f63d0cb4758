"""Endpoints for events. An endpoint's key is shown once, when it is made; its URL may hold a secret and never again."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

from percall_broker.crypto.webhooks import new_secret
from percall_broker.log import changes
from percall_broker.model.errors import Conflict, InvalidInput
from percall_broker.model.rules import is_loopback_name
from percall_broker.outbound.posting import checked
from percall_broker.pipeline.administration.automations import refuse_loopback
from percall_broker.pipeline.webhooks import SECRET_VERSION, sealed_form, secret_name, unknown
from percall_broker.store.protocol import Row, Statement

if TYPE_CHECKING:
    from percall_broker.model.records import Identity
    from percall_broker.pipeline.administration.ledger import Ledger
    from percall_broker.vault import Vault

MAX_WEBHOOKS = 16
FORMS = ("json", "slack")
"""How an event is written: as it is, or as a message for a channel."""
_ID_BYTES = 9


class WebhookEndpoints:
    """The endpoints. Every method raises Unavailable when the store cannot."""

    def __init__(self, ledger: Ledger, vault: Vault) -> None:
        self._ledger = ledger
        self._vault = vault

    async def add(self, by: Identity, url: str, form: str = "json") -> Row:
        """A new endpoint, with its signing key; `form` is one of FORMS. Raises InvalidInput, Conflict when there are
        too many, Forbidden to an automation that may not name what is on this machine.
        """
        if form not in FORMS:
            raise InvalidInput("webhook.format", f"{form!r} is no format.", f"There are: {', '.join(FORMS)}.")
        target = checked(url)
        origin = target.origin
        refuse_loopback(by, {origin} if is_loopback_name(target.host) else ())
        if len(await self.listed()) >= MAX_WEBHOOKS:
            raise Conflict("webhook.many", f"There are {MAX_WEBHOOKS} webhooks already.", "Remove one first.")
        webhook, key = "wh_" + secrets.token_urlsafe(_ID_BYTES), new_secret()
        row = {
            "id": webhook,
            "origin": origin,
            "format": form,
            "created_at": int(time.time()),
            "created_by": by.grant.person,
        }
        done = await self._ledger.change(
            Statement("add_webhook", row, required=True),
            await self._vault.sealing(secret_name(webhook), SECRET_VERSION, sealed_form(url, key)),
            changes.change(by, "webhook.add", webhook=webhook, origin=origin, format=form),
        )
        if done is None:
            raise Conflict("webhook.exists", "That could not be added.", "Try again.")
        return {"webhook": webhook, "origin": origin, "format": form, "key": key}

    async def listed(self) -> list[Row]:
        """The endpoints, oldest first; with how many events wait, and why the last attempt failed."""
        return [_row(row) for row in await self._ledger.fetch("list_webhooks")]

    async def remove(self, by: Identity, webhook: str) -> None:
        """Ends an endpoint; what waits for it is dropped. Raises NotFound."""
        done = await self._ledger.change(
            Statement("remove_webhook", {"id": webhook}, required=True),
            Statement("forget_deliveries", {"webhook": webhook}),
            changes.change(by, "webhook.remove", webhook=webhook),
        )
        if done is None:
            raise unknown(webhook)


def _row(row: Row) -> Row:
    return {
        "webhook": row["id"],
        "origin": row["origin"],
        "format": row["format"],
        "created_at": row["created_at"],
        "created_by": row["created_by"],
        "waiting": row["waiting"],
        "failed_attempts": row["attempts"],
        "retry_at": row["retry_at"] // 1000 if row["attempts"] else 0,
        "problem": row["problem"],
    }
