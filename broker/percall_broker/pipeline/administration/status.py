"""The whole broker at a glance, for whoever operates it: what runs, what ends soon, what waits, what is stopped."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from percall import __version__
from percall_broker.stages.lookup import areas_of

if TYPE_CHECKING:
    from percall_broker.model.errors import BrokerError
    from percall_broker.pipeline.administration import Administration
    from percall_broker.pipeline.expiries import Expiries
    from percall_broker.pipeline.readiness import Readiness
    from percall_broker.pipeline.replicas import Replicas
    from percall_broker.store.protocol import Row, Store
    from percall_broker.vault import Vault

DAY_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True)
class Running:
    """What this process was started as: the name of its store's engine, and of the source of its keys."""

    engine: str
    key_source: str


class Status:
    """Reads it all, and changes nothing."""

    def __init__(
        self,
        store: Store,
        vault: Vault,
        running: Running,
        replicas: Replicas,
        readiness: Readiness,
        expiries: Expiries,
        administration: Administration,
    ) -> None:
        self._store = store
        self._vault = vault
        self._running = running
        self._replicas = replicas
        self._readiness = readiness
        self._expiries = expiries
        self._administration = administration

    async def show(self) -> Row:
        """Of the whole store, save `problems` and `key_source_problem`, which are this replica's own.

        Times are in seconds, 0 where there is none. Raises Unavailable when the store cannot be read.
        """
        now = time.time()
        migrations = await self._store.fetch("read_migrations")
        counted = (await self._store.fetch("count_standing", now=int(now)))[0]
        still_open = (await self._store.fetch("count_open", now_ms=int(now * 1000)))[0]
        failure = self._vault.source_failure
        return {
            "version": __version__,
            "problems": await self._readiness.problems(),
            "store": self._running.engine,
            "schema": max(row["number"] for row in migrations),
            "replicas": await self._replicas.alive(),
            "key_source": self._running.key_source,
            "key_source_problem": _sentence(failure),
            "key_encryption_keys": [
                row["key_encryption_key"] for row in await self._store.fetch("key_encryption_keys_in_use")
            ],
            **{name: counted[name] for name in ("people", "devices", "grants", "servers")},
            "automations": [_automation(row) for row in await self._store.fetch("automations", now=int(now))],
            "expiring_grants": await self._expiries.grants(now),
            "expiring_keys": await self._expiries.keys(now),
            "open_calls": still_open["calls"],
            "unknown_outcomes_in_a_day": await self._unknown(now - DAY_SECONDS),
            "webhooks": await self._administration.webhooks.listed(),
            "last_backup_at": await self._last_backup(),
            "grants_to_review": len((await self._administration.review.show())["grants"]),
            "freezes": await self._administration.freezes.listed(),
        }

    async def _unknown(self, since: float) -> int:
        return int((await self._store.fetch("count_unknown", since_ms=int(since * 1000)))[0]["calls"])

    async def _last_backup(self) -> int:
        rows = await self._store.fetch("last_backup")
        return int(rows[0]["time_ms"]) // 1000 if rows else 0


def _automation(row: Row) -> dict[str, Any]:
    return {"grant": row["id"], "name": row["person"], "may": areas_of(row["may"]), "expires_at": row["expires_at"]}


def _sentence(failure: BrokerError | None) -> str:
    return failure.message if failure else ""
