"""Refused attacks: each is logged and counted, and told to webhooks; bounded, so that nobody floods either.

An attack is told once for its kind and grant within some minutes, at once, and then again with how often it came. What
a stranger wrote is never told: a stable code, and the grant where a token of ours showed one.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from percall_broker.log import events
from percall_broker.model.errors import BrokerError, Unavailable

if TYPE_CHECKING:
    from percall_broker.stages.lookup import Lookup
    from percall_broker.store.protocol import Store
    from percall_broker.telemetry.metrics import Metrics

ATTACK_EVENT = "attack.refused"
BUCKET_SECONDS = 300
KINDS_PER_BUCKET = 100
"""How many kinds of attack, by code and grant, are told apart in a bucket; the rest count as `many`."""
LOGGED_PER_KIND = 20
MANY = ("many", "")

_CODES = frozenset(
    {
        "automation.administrators",
        "automation.loopback",
        "credential.binding",
        "credential.invalid",
        "device.other",
        "grant.administrator",
        "grant.token",
        "invite.unknown",
        "invite.used",
        "presence.wait",
        "presence.wrong",
        "request.ambiguous",
        "request.header",
        "request.host",
        "request.override",
        "request.no_call",
        "request.rule",
        "wire.head",
    }
)
_FAMILIES = ("proof.", "window.", "frame.")
# A shim that needs a nonce gets one; a clock that is wrong is its owner's trouble; a batch job may be slower than it is
# allowed to be. Who shows a used credential has signed with the device key that it was given to: a request whose answer
# was lost, or whose key source failed, is made again.
_HARMLESS = frozenset({"proof.nonce", "proof.time", "window.deadline"})
_MEMBERS = {
    "proof": "algorithm device digest form header id json key nonce replayed request signature time token",
    "window": "closed deadline unknown unopened",
    "frame": "arguments case duplicate id long method name nesting notifications number params ref surrogate syntax "
    "taskId type uri utf8 values",
}
KNOWN = (_CODES | {f"{family}.{one}" for family, ones in _MEMBERS.items() for one in ones.split()}) - _HARMLESS
"""The codes of attacks that there are, for the figures. Another code of a family is an attack all the same."""

log = structlog.get_logger()


def is_attack(code: str) -> bool:
    """Whether a refusal of this code is one that no shim of ours meets in its ordinary work."""
    return (code in _CODES or code.startswith(_FAMILIES)) and code not in _HARMLESS


class Attacks:
    """Takes note of refused attacks. One event loop."""

    def __init__(self, store: Store, lookup: Lookup, metrics: Metrics, own_id: str) -> None:
        self._store = store
        self._lookup = lookup
        self._metrics = metrics
        metrics.may_come(attacks=KNOWN)
        self._own_id = own_id
        self._bucket = 0
        self._counts: dict[tuple[str, str], int] = {}
        self._unannounced: set[tuple[str, str]] = set()
        self._over: list[tuple[int, dict[tuple[str, str], int]]] = []
        self._writing: set[asyncio.Task[None]] = set()

    def note(self, error: BrokerError, address: str = "") -> bool:
        """Takes note, where this refusal is one of an attack; whether it is. `address`: from where, of a stranger."""
        if not is_attack(error.code):
            return False
        self._metrics.attack(error.code)
        self._turn(time.time())
        kind = (error.code, error.grant)
        if kind not in self._counts and len(self._counts) >= KINDS_PER_BUCKET:
            kind = MANY
        count = self._counts[kind] = self._counts.get(kind, 0) + 1
        if count <= LOGGED_PER_KIND:
            log.warning("attack refused", reason=error.code, grant=error.grant, address=address)
        if count == 1:
            self._unannounced.add(kind)
            task = asyncio.ensure_future(self._tell(kind, self._bucket, address, self._unannounced))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)
        return True

    async def flush(self, now: float) -> None:
        """Tells how often each attack of a bucket that is over came. Raises Unavailable; then the next flush does."""
        self._turn(now)
        while self._over:
            bucket, counts = self._over[0]
            for kind, count in counts.items():
                if count > LOGGED_PER_KIND:
                    log.warning("attacks refused", reason=kind[0], grant=kind[1], times=count)
                await self._write(kind, bucket, count)
            del self._over[0]

    async def close(self) -> None:
        """Waits for what is being written."""
        await asyncio.gather(*self._writing, return_exceptions=True)

    def _turn(self, now: float) -> None:
        bucket = int(now) // BUCKET_SECONDS
        if bucket != self._bucket:
            to_tell = {kind: count for kind, count in self._counts.items() if count > 1 or kind in self._unannounced}
            if to_tell:
                self._over = [*self._over[-1:], (self._bucket, to_tell)]
            self._bucket, self._counts, self._unannounced = bucket, {}, set()

    async def _tell(self, kind: tuple[str, str], bucket: int, address: str, unannounced: set[tuple[str, str]]) -> None:
        try:
            await self._write(kind, bucket, 1, address)
        except Unavailable as error:
            # The refusal stands; it is in the process's log, and told when the bucket is over.
            log.warning("attack not announced", reason=kind[0], code=error.code)
        else:
            unannounced.discard(kind)

    async def _write(self, kind: tuple[str, str], bucket: int, count: int, address: str = "") -> None:
        reason, grant_id = kind
        grant = await self._lookup.grant(grant_id) if grant_id else None
        told = {
            "reason": reason,
            "grant": grant_id,
            "person": grant.person if grant else "",
            "agent": grant.agent if grant else "",
            "address": address,
            "times": count,
            "within_seconds": BUCKET_SECONDS,
        }
        # Two replicas that see the first of a kind tell it once; how often it came, each tells for itself.
        own = () if count == 1 else (self._own_id,)
        key = (reason, grant_id, str(bucket), *own)
        await self._store.append(*events.event(ATTACK_EVENT, key, time.time(), **told))
