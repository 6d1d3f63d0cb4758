"""Warm connections to the broker under the loop: up to sixteen, opened as load asks for them.

Looking up, connecting and the TLS handshake happen in a thread, so that a broker that does not answer never holds up
a frame. A request that found its warm connection closed goes out once more on a fresh one: nothing was answered.
"""

from __future__ import annotations

import sys
import time
from _thread import start_new_thread
from collections import deque

from percall import http1, wire
from percall.errors import BrokerUnreachable, PercallError
from percall.run.loop import READ, WRITE

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable

    from percall.run.loop import Loop

MAX_CONNECTIONS = 16
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 10.0
"""How long a request waits for a connection, and then for the next byte of its answer."""
SILENT_ANSWER_SECONDS = 3.0
"""The same, once the broker has been silent: the next calls should not wait as long to be told."""
STREAM_SECONDS = 2 * wire.HEARTBEAT_SECONDS + 5.0
"""How long a stream may be silent: one heartbeat may be lost."""
_RESTED_SECONDS = 30.0
"""After so long a rest, a connection may lead nowhere without anybody's having noticed: a laptop has slept."""
_SWEEP_SECONDS = 1.0
_RECEIVE_BYTES = 64 * 1024
_READS_AT_ONCE = 16
_MAX_BODY_BYTES = 1024 * 1024


class Exchange:
    """One request and what becomes of its answer.

    `done` gets the status, the headers and the body; `failed` a PercallError. With `stream`, that gets the body of a
    200 piece by piece, after `began` got its headers; then `ended` tells of its end, or `failed` of one that came too
    soon (without `ended`: of any). A streamed answer with `ended` waits while the pool is paused. `patience`, if given,
    is how many seconds the broker may be silent. `again`, if given, makes the request anew where its connection broke;
    else the same bytes are sent again. `once`: the broker takes it only once. `was_sent`: the broker may have seen some
    of the request.
    """

    __slots__ = (
        "again",
        "asked",
        "began",
        "connection",
        "done",
        "ended",
        "failed",
        "is_retry",
        "once",
        "patience",
        "request",
        "stream",
        "was_sent",
    )

    def __init__(
        self,
        request: bytes,
        done: Callable[[int, dict[str, str], bytes], None],
        failed: Callable[[PercallError], None],
        stream: Callable[[bytes], None] | None = None,
        *,
        began: Callable[[dict[str, str]], None] | None = None,
        ended: Callable[[], None] | None = None,
        patience: float | None = None,
        again: Callable[[], None] | None = None,
        once: bool = False,
    ) -> None:
        self.again = again
        self.once = once
        self.request = request
        self.done = done
        self.failed = failed
        self.stream = stream
        self.began = began
        self.ended = ended
        self.patience = patience
        self.is_retry = False
        self.was_sent = False
        self.asked = 0.0
        self.connection: _Connection | None = None


class Pool:
    """Connections to one broker. Requests wait in line when all are busy."""

    def __init__(self, loop: Loop, address: http1.Address, ca_file: str | None, limit: int = MAX_CONNECTIONS) -> None:
        self.loop = loop
        self.address = address
        self._ca_file = ca_file
        self._limit = limit
        self._context: ssl.SSLContext | None = None
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()
        self._streaming: set[_Connection] = set()
        self._opening = 0
        self._queue: deque[Exchange] = deque()
        self._sweeping = False
        self.is_silent = False
        self.is_paused = False

    @property
    def patience(self) -> float:
        """How many seconds to wait for the broker's next byte."""
        return SILENT_ANSWER_SECONDS if self.is_silent else ANSWER_SECONDS

    @property
    def unsent(self) -> int:
        """How many bytes of requests wait for the broker to take them."""
        return sum(len(exchange.request) for exchange in self._queue) + sum(
            connection.unsent for connection in self._streaming
        )

    def send(self, exchange: Exchange) -> None:
        """Send a request on a free connection, or as soon as there is one."""
        connection = self._free(exchange)
        if connection is not None:
            self._start(connection, exchange)
            return
        exchange.asked = time.monotonic()
        self._queue.append(exchange)
        self._watch_clock()
        if self._opening < len(self._queue) and self._opening + len(self._busy) < self._limit:
            self._open()

    def _free(self, exchange: Exchange) -> _Connection | None:
        """One to send it on at once. What is taken only once goes out on none that has rested for long: should that
        break, nobody could tell whether it had arrived.
        """
        while self._idle:
            connection = self._idle.pop()
            if not exchange.once or time.monotonic() < connection.free_since + _RESTED_SECONDS:
                return connection
            connection.close()
        return None

    def cancel(self, exchange: Exchange) -> None:
        """Nobody waits for this answer any more: its connection is closed, and nothing is told of it."""
        if exchange.connection is not None:
            exchange.connection.abandon()
        elif exchange in self._queue:
            self._queue.remove(exchange)

    def pause(self) -> None:
        """Read no streamed answer for now: whoever gets them is behind."""
        if not self.is_paused:
            self.is_paused = True
            for connection in self._streaming:
                connection.pause()

    def resume(self) -> None:
        """Read them again."""
        self.is_paused = False
        for connection in tuple(self._streaming):
            connection.resume()

    def close(self) -> None:
        """Close all connections without telling anyone."""
        self._queue.clear()
        for connection in (*self._idle, *self._busy, *self._streaming):
            connection.close()
        self._idle.clear()
        self._busy.clear()
        self._streaming.clear()

    def released(self, connection: _Connection, *, reusable: bool) -> None:
        """A connection's exchange has ended."""
        self._busy.discard(connection)
        self._streaming.discard(connection)
        if not reusable:
            connection.close()
            if self._queue:
                self._open()
        elif self._queue:
            self._start(connection, self._queue.popleft())
        elif len(self._idle) < self._limit:
            self._idle.append(connection)
        else:
            connection.close()

    def lost(self, connection: _Connection) -> None:
        """An idle connection was closed by the broker."""
        if connection in self._idle:
            self._idle.remove(connection)
        connection.close()

    def _start(self, connection: _Connection, exchange: Exchange) -> None:
        (self._busy if exchange.stream is None else self._streaming).add(connection)
        self._watch_clock()
        connection.start(exchange)

    def _watch_clock(self) -> None:
        if not self._sweeping:
            self._sweeping = True
            self.loop.later(_SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        now = time.monotonic()
        for connection in (*self._busy, *self._streaming):
            connection.check(now)
        # A name that is looked up for ever, or a handshake that never ends, must not hold up a call.
        late = [exchange for exchange in self._queue if now > exchange.asked + self.patience]
        for exchange in late:
            self._queue.remove(exchange)
        for exchange in late:
            exchange.failed(self.silence())
        self._sweeping = bool(self._busy or self._streaming or self._queue)
        if self._sweeping:
            self.loop.later(_SWEEP_SECONDS, self._sweep)

    def silence(self) -> BrokerUnreachable:
        """The broker did not answer in time; the next ones are not waited for as long, nor on connections that may lead
        nowhere by now.
        """
        self.is_silent = True
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
        return BrokerUnreachable(
            "broker.silent",
            f"The Percall broker {self.address.url('')} did not answer in time.",
            "Check that it is well (percall status), then try again.",
        )

    def _open(self) -> None:
        self._opening += 1
        try:
            start_new_thread(self._connect, ())
        except RuntimeError:  # no thread is left, for the moment
            failure = http1.unreachable(self.address, OSError("this machine has no thread left"))
            self.loop.call_soon(lambda: self._failed(failure))

    def _connect(self) -> None:
        """In a thread: everything about a connection that may wait."""
        try:
            if self.address.secure and self._context is None:
                self._context = http1.tls_context(self._ca_file or None)
            opened = http1.connect(self.address, self._context, CONNECT_SECONDS)
        except PercallError as error:
            failure = error
            self.loop.call_soon(lambda: self._failed(failure))
        else:
            self.loop.call_soon(lambda: self._opened(opened))

    def _opened(self, opened: socket.socket) -> None:
        self._opening -= 1
        opened.setblocking(False)
        self.released(_Connection(self, opened), reusable=True)

    def _failed(self, error: PercallError) -> None:
        self._opening -= 1
        if self._busy or self._opening:
            return  # those in line get the next connection that is free, or the next failure
        waiting = tuple(self._queue)
        self._queue.clear()
        for exchange in waiting:
            exchange.failed(error)


class _Connection:
    """A connected socket with at most one exchange on it."""

    def __init__(self, pool: Pool, connected: socket.socket) -> None:
        self._pool = pool
        self._socket = connected
        self._exchange: Exchange | None = None
        self._reader: http1.ResponseReader | None = None
        self._pending: bytes | memoryview = b""
        self._deadline = 0.0
        self._is_fresh = True
        self.free_since = time.monotonic()
        self._has_begun = False
        self._is_paused = False
        tls = sys.modules.get("ssl") if pool.address.secure else None
        self._would_block: tuple[type[OSError], ...] = (BlockingIOError,)
        if tls is not None:
            self._would_block = (BlockingIOError, tls.SSLWantReadError, tls.SSLWantWriteError)
        pool.loop.watch(connected.fileno(), READ, self._ready)

    def start(self, exchange: Exchange) -> None:
        self._exchange = exchange
        exchange.connection = self
        exchange.was_sent = True
        self._reader = http1.ResponseReader()
        self._has_begun = False
        self._pending = exchange.request
        self._wait()
        self._flush()
        if self._pool.is_paused:
            self.pause()

    def _wait(self) -> None:
        """From now on, the broker may be silent for so long."""
        if self._exchange is None:
            return
        usual = self._pool.patience if self._exchange.stream is None else STREAM_SECONDS
        patience = self._exchange.patience
        self._deadline = time.monotonic() + (usual if patience is None else patience)

    @property
    def unsent(self) -> int:
        """How many bytes of the request have not been taken yet."""
        return len(self._pending)

    def abandon(self) -> None:
        """Close in the middle of the exchange, and say nothing."""
        self._exchange = self._reader = None
        self._pool.released(self, reusable=False)

    def pause(self) -> None:
        """Read nothing until `resume`, unless the exchange is one that cannot wait."""
        if self._exchange is not None and self._exchange.ended is not None and not self._is_paused:
            self._is_paused = True
            self._watch()

    def resume(self) -> None:
        """Read on."""
        if self._is_paused:
            self._is_paused = False
            self._wait()
            self._watch()
            self._pool.loop.later(0.0, self._receive)  # what TLS has read already wakes nobody

    def _watch(self) -> None:
        events = (0 if self._is_paused else READ) | (WRITE if self._pending else 0)
        if self._socket.fileno() < 0:
            return
        if events:
            self._pool.loop.watch(self._socket.fileno(), events, self._ready)
        else:
            self._pool.loop.unwatch(self._socket.fileno())

    def check(self, now: float) -> None:
        """Give up when the broker has been silent for too long. Nobody listens while it is paused."""
        if now > self._deadline and not self._is_paused:
            self._fail(self._pool.silence())

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._pool.loop.unwatch(self._socket.fileno())
            self._socket.close()

    def _flush(self) -> None:
        try:
            while self._pending:
                sent = self._socket.send(self._pending)
                self._pending = memoryview(self._pending)[sent:]
                self._wait()
        except self._would_block:
            self._watch()
            return
        except OSError as error:
            self._broken(error)
            return
        self._pending = b""

    def _ready(self, events: int) -> None:
        if self._pending and events & WRITE:
            self._flush()
            if not self._pending:
                self._watch()
        if events & ~WRITE:
            self._receive()

    def _receive(self) -> None:  # noqa: PLR0911 - one for each way that reading may stop
        for _ in range(_READS_AT_ONCE):
            if self._socket.fileno() < 0 or self._is_paused:
                return
            try:
                data = self._socket.recv(_RECEIVE_BYTES)
            except self._would_block:
                return
            except OSError as error:
                self._broken(error)
                return
            if self._exchange is None or self._reader is None:
                self._pool.lost(self)  # closed, or speaking out of turn
                return
            try:
                if not data:
                    self._closed()
                    return
                self._reader.feed(data)
                self._pool.is_silent = False
                self._wait()
                if self._advance(self._exchange, self._reader):
                    return
            except PercallError as error:
                self._fail(error)
                return
        self._pool.loop.later(0.0, self._receive)  # the others first

    def _advance(self, exchange: Exchange, reader: http1.ResponseReader) -> bool:
        """Hand on what has arrived. Whether the exchange is over."""
        if exchange.stream is not None and reader.status == 200:  # noqa: PLR2004
            if exchange.began is not None and not self._has_begun:
                self._has_begun = True
                exchange.began(reader.headers)
            piece = reader.take()
            if piece and self._exchange is exchange:
                exchange.stream(piece)
            if not reader.complete or self._exchange is not exchange:
                return self._exchange is not exchange
            if exchange.ended is not None:
                self._release(exchange, reader)
                exchange.ended()
                return True
            self._fail(BrokerUnreachable("broker.cut", "The broker ended the event stream."))
            return True
        if not reader.complete:
            if reader.buffered > _MAX_BODY_BYTES:
                raise BrokerUnreachable(http1.STRANGE, "The broker's answer is too long.")
            return False
        body = reader.take()
        self._release(exchange, reader)
        exchange.done(reader.status, reader.headers, body)
        return True

    def _release(self, exchange: Exchange, reader: http1.ResponseReader) -> None:
        """The answer is whole: the connection may carry another request."""
        self._exchange = self._reader = exchange.connection = None
        self._is_fresh = False
        self.free_since = time.monotonic()
        if self._is_paused:
            self._is_paused = False
            self._watch()
        self._pool.released(self, reusable=reader.reusable and not reader.leftover)

    def _closed(self) -> None:
        """The broker closed the connection."""
        if self._reader is not None and self._reader.untouched:
            self._broken(OSError("it closed the connection without an answer"))
        elif self._reader is not None and self._exchange is not None:
            self._reader.feed_eof()
            self._advance(self._exchange, self._reader)

    def _broken(self, error: OSError) -> None:
        exchange = self._exchange
        if exchange is None:
            self._pool.lost(self)
            return
        untouched = self._reader is None or self._reader.untouched
        if untouched and not self._is_fresh and not exchange.is_retry:
            exchange.is_retry = True
            self._exchange = self._reader = exchange.connection = None
            self._pool.released(self, reusable=False)
            if exchange.again is not None:
                exchange.again()
            else:
                self._pool.send(exchange)
            return
        self._fail(http1.unreachable(self._pool.address, error))

    def _fail(self, error: PercallError) -> None:
        exchange, self._exchange, self._reader = self._exchange, None, None
        self._pool.released(self, reusable=False)
        if exchange is not None:
            exchange.connection = None
            exchange.failed(error)
