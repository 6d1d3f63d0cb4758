"""The way to the upstreams: one request, one streamed answer, over warm connections to checked addresses.

No proxy, no environment, no redirects, no cookies, no retries: what was decided on is what is sent, once.
"""

from __future__ import annotations

import math
import ssl
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import httpcore

from percall_broker.model.errors import UpstreamFailed
from percall_broker.model.rules import is_loopback_name, parse_url
from percall_broker.outbound.addresses import loopback_addresses, public_addresses, system_resolver
from percall_broker.outbound.network import Backend, CheckedStream, Deadlines

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping, Sequence

    from percall_broker.model.rules import Target
    from percall_broker.outbound.addresses import Resolver

MAX_CONNECTIONS = 256
MAX_IDLE_CONNECTIONS = 64
IDLE_SECONDS = 55.0
"""Below the 60 s after which load balancers drop idle connections."""
MAX_ANSWER_BYTES = 4 * 1024 * 1024 * 1024
LONG_BYTES = 1024 * 1024
"""The rest of a body from which it is read past httpcore, at the price of the connection."""


@dataclass(frozen=True, slots=True)
class UpstreamAnswer:
    """The answer's head, and its body as it comes: the caller sets the pace."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: AsyncIterator[bytes]


class _Connection(httpcore.AsyncHTTPConnection):
    """A connection that does not stay in its pool, open and of no use, when its first request is cancelled too early.

    httpcore closes one whose request has begun; between the connection's making and that beginning it forgets it.
    """

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        """As httpcore does it, and tidied up after."""
        try:
            return await super().handle_async_request(request)
        except httpcore.ConnectionNotAvailable:
            raise  # it is another request's
        except BaseException:
            if ", NEW," in self.info():
                await self.aclose()
            raise


class _Pool(httpcore.AsyncConnectionPool):
    """httpcore's pool, of our connections."""

    def create_connection(self, origin: httpcore.Origin) -> _Connection:
        """A connection to an origin."""
        return _Connection(
            origin,
            ssl_context=self._ssl_context,
            keepalive_expiry=self._keepalive_expiry,
            network_backend=self._network_backend,
        )


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
        deadlines = deadlines or Deadlines()
        pool = partial(
            _Pool,
            ssl_context=trust or ssl.create_default_context(),
            max_connections=max_connections,
            max_keepalive_connections=MAX_IDLE_CONNECTIONS,
            keepalive_expiry=IDLE_SECONDS,
            http1=True,
            http2=False,
            retries=0,
        )
        self._public = pool(network_backend=Backend(partial(public_addresses, resolve), deadlines))
        self._loopback = pool(network_backend=Backend(partial(loopback_addresses, resolve), deadlines))
        self._deadlines = deadlines

    @asynccontextmanager
    async def send(
        self,
        method: str,
        target: Target,
        headers: Sequence[tuple[bytes, bytes]],
        body: AsyncIterable[bytes],
        connect: Mapping[str, str],
        *,
        patient: bool = False,
    ) -> AsyncIterator[UpstreamAnswer]:
        """One request, and its answer until the block ends. `headers` are complete: Host and framing included.

        `connect` maps an origin to the loopback origin that stands in for it. `patient`: the answer may take as long
        as it likes, for the caller bounds the time. Raises UpstreamFailed, in the block too.
        """
        through = parse_url(connect[target.origin]) if target.origin in connect else target
        if through.scheme == "http" and not is_loopback_name(through.host):
            raise UpstreamFailed("upstream.address", f"{through.origin}: http is for loopback alone.")
        pool = self._loopback if through.scheme == "http" else self._public
        request = httpcore.Request(
            method,
            httpcore.URL(
                scheme=through.scheme,
                host=through.host,
                port=through.port,
                target=target.path_and_query.encode("ascii"),
            ),
            headers=headers,
            content=body,
            extensions={"timeout": {"pool": self._deadlines.connect, **({"read": math.inf} if patient else {})}},
        )
        try:
            response = await pool.handle_async_request(request)
        except httpcore.PoolTimeout:
            raise UpstreamFailed("upstream.busy", "Too many requests are under way.") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
            raise _failure(error) from None  # its text and context may quote the request, and so the key
        try:
            stream = response.extensions["network_stream"]
            if not isinstance(stream, CheckedStream) or stream.head_pending:
                raise UpstreamFailed("upstream.framing", "The upstream answered before it was asked.")
            yield UpstreamAnswer(
                response.status, response.headers, _pieces(response, stream, math.inf if patient else None)
            )
        finally:
            await response.aclose()

    async def close(self) -> None:
        """Lets go of every connection."""
        await self._public.aclose()
        await self._loopback.aclose()


async def _pieces(response: httpcore.Response, network: CheckedStream, patience: float | None) -> AsyncIterator[bytes]:
    total = 0
    async with aclosing(_body(response, network, patience)) as body:
        async for piece in body:
            total += len(piece)
            if total > MAX_ANSWER_BYTES:
                raise UpstreamFailed("upstream.size", f"The answer is longer than {MAX_ANSWER_BYTES} bytes.")
            yield piece


async def _body(
    response: httpcore.Response, network: CheckedStream, patience: float | None
) -> AsyncGenerator[bytes, None]:
    try:
        async with aclosing(response.aiter_stream()) as stream:  # type: ignore[type-var]
            async for piece in stream:
                yield piece  # all that httpcore has read of a body of known length
                if network.left >= LONG_BYTES:
                    async for later in network.rest(patience):
                        yield later
                    return
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
        raise _failure(error) from None


def _failure(error: Exception) -> UpstreamFailed:
    if isinstance(error, httpcore.LocalProtocolError):
        return UpstreamFailed("upstream.request", "The request cannot be put into HTTP/1.1.")
    if isinstance(error, httpcore.ProtocolError):
        return UpstreamFailed("upstream.protocol", "The upstream's answer is not HTTP/1.1, or ended early.")
    return UpstreamFailed("upstream.cut", "The upstream broke the connection off.")
