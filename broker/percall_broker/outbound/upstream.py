"""The way to the upstreams: one request, one streamed answer, over warm connections to checked addresses.

No proxy, no environment, no redirects, no cookies, no retries: what was decided on is what is sent, once.
"""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from percall_broker.model.errors import UpstreamFailed
from percall_broker.model.rules import is_loopback_name, parse_url
from percall_broker.outbound import http1
from percall_broker.outbound.addresses import loopback_addresses, public_addresses, system_resolver
from percall_broker.outbound.network import Deadlines, Network
from percall_broker.outbound.pace import Pace, Paced
from percall_broker.outbound.pool import Pool

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence

    from percall_broker.model.rules import Target
    from percall_broker.outbound.addresses import Resolver
    from percall_broker.outbound.streams import Use

MAX_CONNECTIONS = 1024


@dataclass(frozen=True, slots=True)
class UpstreamAnswer:
    """The answer's head, and its body as it comes: the caller sets the pace."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: AsyncIterator[bytes]


class Upstream:
    """Sends requests to upstreams. `trust` verifies their certificates; the system's roots where none is given."""

    def __init__(
        self,
        *,
        deadlines: Deadlines | None = None,
        resolve: Resolver = system_resolver,
        trust: ssl.SSLContext | None = None,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self._deadlines = deadlines = deadlines or Deadlines()
        trust = trust or ssl.create_default_context()
        trust.set_alpn_protocols(["http/1.1"])
        public = Network(partial(public_addresses, resolve), deadlines, trust)
        loopback = Network(partial(loopback_addresses, resolve), deadlines)
        self._pace = Pace()
        self._public = Pool(public, max_connections, deadlines.connect)
        self._loopback = Pool(loopback, max_connections, deadlines.connect)

    @asynccontextmanager
    async def send(
        self,
        method: str,
        target: Target,
        headers: Sequence[tuple[bytes, bytes]],
        body: AsyncIterable[bytes],
        connect: Mapping[str, str],
        *,
        use: Use,
        patient: bool = False,
    ) -> AsyncIterator[UpstreamAnswer]:
        """One request, and its answer until the block ends. `headers` are complete: Host and framing included.

        `connect` maps an origin to the loopback origin that stands in for it. `use`: for whom, who alone uses this
        connection again. `patient`: the answer may take as long as it likes, for the caller bounds the time. Raises
        UpstreamFailed, in the block too.
        """
        through = parse_url(connect[target.origin]) if target.origin in connect else target
        if through.scheme == "http" and not is_loopback_name(through.host):
            raise UpstreamFailed("upstream.address", f"{through.origin}: http is for loopback alone.")
        pool = self._loopback if through.scheme == "http" else self._public
        async with pool.lend(through, use) as lent:
            may_be_followed = await http1.send(lent.stream, method, target.path_and_query, headers, body)
            answer = await http1.receive(lent.stream, method, None if patient else self._deadlines)
            yield UpstreamAnswer(answer.head.status, answer.head.headers, Paced(answer, self._pace))
            lent.may_be_kept = may_be_followed and answer.is_whole and answer.head.keeps

    async def close(self) -> None:
        """Lets go of every connection."""
        self._public.close()
        self._loopback.close()


async def in_one_piece(body: bytes) -> AsyncIterator[bytes]:
    """A request's body that is here already."""
    if body:
        yield body
