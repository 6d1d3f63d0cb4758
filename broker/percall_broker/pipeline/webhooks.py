"""Sends events to their endpoints: signed, at least once, and in order for each endpoint.

What is waiting is in the store, so a restart loses nothing. One replica at a time sends to an endpoint; should it die,
another takes over when its claim has run out. An endpoint that fails is tried again after longer and longer pauses, and
holds up no other, nor anything else: each has a task of its own. Nor does an event that its receiver refuses as such
hold up those after it for long: it is given up once the receiver has refused it some times and takes another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import secrets
import time
from typing import TYPE_CHECKING

import structlog

from percall_broker.crypto import webhooks
from percall_broker.log import slack
from percall_broker.model.errors import BrokerError, InvalidInput, NotFound, Unavailable, UpstreamFailed
from percall_broker.model.moments import stamp
from percall_broker.store.protocol import Statement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from percall_broker.outbound.posting import Posting
    from percall_broker.store.protocol import Row, Store
    from percall_broker.telemetry.metrics import Metrics
    from percall_broker.vault import Vault

LOOK_SECONDS = 0.5
CLAIM_SECONDS = 10
"""How long a replica that died keeps the others from an endpoint. Renewed for each event; twice the longest attempt."""
PAUSES_SECONDS = (1, 5, 30, 120, 600, 1800, 3600)
KEPT_SECONDS = 30 * 24 * 3600
"""For how long an event that cannot be delivered is tried."""
SECRET_VERSION = 1
_OF_THE_EVENT = frozenset({400, 413, 415, 422})
"""Answers that may be about the event, or about whatever is sent: a signature, a channel that is gone."""
_REFUSED_TIMES = 3
_SURE_SECONDS = 120
"""The longest pause while it may be the event alone: what comes after it waits no longer."""
_JITTER = 0.2
_ID_BYTES = 12

log = structlog.get_logger()


def secret_name(webhook: str) -> str:
    """What an endpoint's sealed URL and key are called in the vault. No server's name holds a slash."""
    return f"webhook/{webhook}"


def sealed_form(url: str, key: str) -> bytes:
    """What is sealed of an endpoint."""
    return json.dumps({"url": url, "key": key}).encode()


class Webhooks:
    """The chore that sends. `own_id` names this replica."""

    def __init__(self, store: Store, vault: Vault, posting: Posting, metrics: Metrics, own_id: str) -> None:
        self._store = store
        self._vault = vault
        self._posting = posting
        self._metrics = metrics
        self._own_id = own_id
        self._sending: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Sends what waits, for the life of the broker."""
        try:
            while True:
                try:
                    due = await self._store.fetch("due_webhooks", sender=self._own_id, now_ms=_now_ms())
                except Unavailable:
                    due = []
                for row in due:
                    self._begin(row["id"])
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            for task in list(self._sending.values()):
                task.cancel()
            await asyncio.gather(*self._sending.values(), return_exceptions=True)

    async def close(self) -> None:
        """Leaves the endpoints to other replicas."""
        await self._posting.close()
        with contextlib.suppress(Unavailable):
            await self._store.append(Statement("release_webhooks", {"sender": self._own_id}))

    async def test(self, webhook: str) -> Row:
        """Sends one event of the kind `webhook.test` now; how it went. Raises NotFound, Unavailable."""
        formats = {row["id"]: row["format"] for row in await self._store.fetch("list_webhooks")}
        if webhook not in formats:
            raise unknown(webhook)
        identifier = "evt_" + secrets.token_urlsafe(_ID_BYTES)
        body = json.dumps({"type": "webhook.test", "timestamp": stamp(time.time()), "data": {"webhook": webhook}})
        _, problem = await self._post(webhook, identifier, body, formats[webhook])
        return {"webhook": webhook, "event": identifier, "delivered": not problem, "problem": problem}

    async def purge(self, now: float) -> None:
        """Forgets what is long over, and what could not be delivered for so long. Raises Unavailable."""
        before = {"before_ms": int((now - KEPT_SECONDS) * 1000)}
        lost, _ = await self._store.append(Statement("purge_deliveries", before), Statement("purge_events", before))
        if lost:
            log.error("events could not be delivered", events=len(lost), days=KEPT_SECONDS // 86400)

    def _begin(self, webhook: str) -> None:
        if webhook not in self._sending:
            task = self._sending[webhook] = asyncio.create_task(self._send_all(webhook))
            task.add_done_callback(lambda _: self._sending.pop(webhook))

    async def _send_all(self, webhook: str) -> None:
        try:
            while (attempts := await self._claim(webhook)) is not None:
                first, *further = await self._store.fetch("next_deliveries", webhook=webhook) or (None,)
                if first is None:
                    await self._note(webhook, 0, 0, "")
                    return
                status, problem = await self._send(webhook, first)
                is_refused = status in _OF_THE_EVENT
                if is_refused and attempts + 1 >= _REFUSED_TIMES and await self._takes(webhook, further, attempts):
                    log.error("event refused and given up", webhook=webhook, refused=first["id"], problem=problem)
                elif problem:
                    await self._failed(webhook, attempts + 1, problem, _SURE_SECONDS if is_refused else None)
                    return
                await self._store.append(Statement("delivered", {"seq": first["seq"]}))
                if attempts:
                    await self._note(webhook, 0, 0, "")
        except Unavailable as error:
            log.warning("events not sent", webhook=webhook, code=error.code)

    async def _takes(self, webhook: str, further: Sequence[Row], attempts: int) -> bool:
        """Whether the receiver takes an event after one that it refuses, and so is not what fails. At each attempt
        another one, for several in a row may be refused.
        """
        if not further or await self._claim(webhook) is None:
            return False
        another = further[attempts % len(further)]
        _, problem = await self._send(webhook, another)
        if not problem:
            await self._store.append(Statement("delivered", {"seq": another["seq"]}))
        return not problem

    async def _claim(self, webhook: str) -> int | None:
        """How many attempts have failed in a row; None when it is another's turn, or the pause is not over."""
        now = _now_ms()
        parameters = {"id": webhook, "sender": self._own_id, "now_ms": now, "until_ms": now + CLAIM_SECONDS * 1000}
        (claimed,) = await self._store.append(Statement("claim_webhook", parameters))
        return claimed[0]["attempts"] if claimed else None

    async def _failed(self, webhook: str, attempts: int, problem: str, most_seconds: int | None) -> None:
        pause = min(PAUSES_SECONDS[min(attempts, len(PAUSES_SECONDS)) - 1], most_seconds or PAUSES_SECONDS[-1])
        spread = 1 + random.uniform(-_JITTER, _JITTER)  # noqa: S311 - so that endpoints are not tried all at once
        log.warning("event not delivered", webhook=webhook, attempts=attempts, problem=problem)
        await self._note(webhook, attempts, _now_ms() + int(pause * spread * 1000), problem)

    async def _note(self, webhook: str, attempts: int, retry_ms: int, problem: str) -> None:
        """How an endpoint stands: attempts that failed in a row, when it is tried again, why the last one failed."""
        told = {"id": webhook, "sender": self._own_id, "attempts": attempts, "retry_at": retry_ms, "problem": problem}
        await self._store.append(Statement("settle_webhook", told))

    async def _send(self, webhook: str, waiting: Row) -> tuple[int, str]:
        return await self._post(webhook, waiting["id"], waiting["body"], waiting["format"])

    async def _post(self, webhook: str, identifier: str, body: str, form_of_body: str) -> tuple[int, str]:
        """The answer's status, 0 for none, and why the event was not delivered, empty when it was. Raises
        Unavailable.
        """
        status = 0
        try:
            form = json.loads(await self._vault.unseal(secret_name(webhook), SECRET_VERSION))
            data = (slack.message(body) if form_of_body == "slack" else body).encode()
            signed = webhooks.headers(form["key"], identifier, time.time(), data)
            status = await self._posting.post(form["url"], signed, data)
        except (UpstreamFailed, InvalidInput) as error:
            problem = error.message
        except NotFound:
            problem = "Its key is not there."
        else:
            problem = "" if 200 <= status < 300 else f"It answered {status}."  # noqa: PLR2004 - success
        self._metrics.webhook_attempted("failed" if problem else "delivered")
        return status, problem


def unknown(webhook: str) -> BrokerError:
    """The refusal of an endpoint that is not there."""
    return NotFound("webhook.unknown", f"There is no webhook {webhook[:32]!r}.", "See: percall-broker webhook list.")


def _now_ms() -> int:
    return int(time.time() * 1000)
