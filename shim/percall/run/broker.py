"""The broker as the loop sees it: requests that are signed, sent, repeated once for a nonce, and answered or refused.

What is asked before the keyring's helper process has answered waits for it. Secrets stay in `Signer`, which never
shows them.
"""

from __future__ import annotations

import time
from _thread import allocate_lock

from percall import system, wire
from percall.errors import BrokerRefusal, BrokerUnreachable, IdentityError, PercallError
from percall.http1 import not_a_brokers, request_head
from percall.run.connection import Exchange, Pool
from percall.run.loop import READ

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Sequence

    from percall.home import Login
    from percall.http1 import Address
    from percall.proof import DeviceKey
    from percall.run.loop import Loop, Timer
    from percall.system.posix import Fork

_OK = range(200, 300)
_UNAUTHORISED = 401
_SERVER_ERROR = 500
_READER_SECONDS = 610.0  # the helper has its own time-out, and says more
_READ_AGAIN_SECONDS = 5.0
_LOCKED = "passphrase.missing"
_READ_BYTES = 65536


class Signer:
    """Signs requests as this device. The loop fills it; the egress listener's threads use it too."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.nonce = ""
        self.is_ready = False
        self._gate = allocate_lock()
        self._gate.acquire()
        self.failure: PercallError | None = None
        self._key: DeviceKey | None = None
        self._token = ""

    def __repr__(self) -> str:
        return f"Signer({self.address.url('')})"

    def accept(self, seed: bytes, token: str, proxy_password: str = "") -> None:
        """Sign with this identity from now on. Raises IdentityError when the key is damaged."""
        from percall.proof import DeviceKey  # noqa: PLC0415 - loads libsodium, which a start need not wait for

        self._key, self._token = DeviceKey(seed), token
        self.failure = None
        if self.address.proxy is not None:
            self.address.proxy.tell(proxy_password)
        self._open_gate()

    def reject(self, error: PercallError) -> None:
        """Nobody can sign: say why to those who wait."""
        self.failure = error
        self._open_gate()

    def wait(self, seconds: float) -> bool:
        """In a thread: wait until the identity was read or could not be. Whether that has happened."""
        if self.is_ready:
            return True
        if not self._gate.acquire(timeout=seconds):
            return False
        self._gate.release()
        return True

    def start_over(self) -> None:
        """The identity is being read again."""
        if self.is_ready:
            self.is_ready = False
            self._gate.acquire()

    def _open_gate(self) -> None:
        if not self.is_ready:
            self.is_ready = True
            self._gate.release()

    def headers(self, method: str, path: str, body_digest: str, again: str = "") -> tuple[str, list[tuple[str, str]]]:
        """The proof's id, and the headers of a signed request. `again`: the id that its proof had when its answer was
        lost. Raises IdentityError while there is no identity.
        """
        if self._key is None:
            raise self.failure or IdentityError("identity.waiting", "The device key has not been read yet.")
        jti, proof = self._key.proof(method, self.address.url(path), self._token, self.nonce, body_digest, again)
        return jti, [
            ("authorization", f"DPoP {self._token}"),
            ("dpop", proof),
            (wire.HEADER_VERSION, str(wire.VERSION)),
        ]

    def take_nonce(self, headers: dict[str, str]) -> None:
        """Remember a nonce that came with an answer."""
        nonce = headers.get(wire.HEADER_NONCE)
        if nonce:
            self.nonce = nonce


def wants_nonce(status: int, headers: dict[str, str]) -> bool:
    """Whether the broker asks for the same request with the nonce that it has just given."""
    challenge = headers.get("www-authenticate", "")
    return status == _UNAUTHORISED and wire.NONCE_CHALLENGE in challenge and wire.HEADER_NONCE in headers


def refusal_of(status: int, body: bytes, address: Address) -> PercallError:
    """What an answer other than success means: a refusal, or (from 500 on) that the broker cannot answer now."""
    refusal = wire.refusal_in(body)
    if refusal is None:
        return not_a_brokers(status, address.url(""))
    kind = BrokerRefusal if status < _SERVER_ERROR else BrokerUnreachable
    return kind(refusal.code, refusal.message, refusal.next_step)


class Broker:
    """Signed requests to one broker, as one login."""

    def __init__(self, loop: Loop, login: Login, signer: Signer, reader: Fork | None = None) -> None:
        self.signer = signer
        self._away_since = 0.0
        self._loop = loop
        self._login = login
        self._pool = Pool(loop, signer.address, login.ca_file or None)
        self._waiting: list[Callable[[], None]] = []
        self._reader: subprocess.Popen[bytes] | Fork | None = reader
        self._reader_descriptor = -1
        self._patience: Timer | None = None
        self._answer = b""
        self._failed_at = 0.0
        self.wanted: Callable[[], None] = lambda: None
        """Called when a request waits for the identity."""

    def request(
        self,
        method: str,
        path: str,
        body: bytes,
        done: Callable[[bytes], None],
        failed: Callable[[PercallError], None],
        stream: Callable[[bytes], None] | None = None,
    ) -> None:
        """Send one signed request; `done` gets the body of a success, `failed` everything else.

        With `stream`, that gets the body of a success piece by piece, and `failed` tells of its end.
        """

        def answered(status: int, _headers: dict[str, str], answer: bytes) -> None:
            if status in _OK:
                done(answer)
            else:
                failed(refusal_of(status, answer, self.signer.address))

        headers = (("content-type", wire.MEDIA_TYPE),) if body else ()
        self.send(SignedRequest(self, method, path, body, answered, failed, stream, headers=headers))

    def send(self, request: SignedRequest) -> None:
        """Send a request as soon as there is an identity to sign it with."""
        if not self.signer.is_ready:
            self._waiting.append(request.send)
            self.wanted()
        elif self.signer.failure is not None and self._is_worth_reading(self.signer.failure):
            self._waiting.append(request.send)
            self.read_identity()
        else:
            request.send()

    def _is_worth_reading(self, failure: PercallError) -> bool:
        """Whether the identity may be there by now. Somebody who has just unlocked the file waits for nothing."""
        return failure.code == _LOCKED or time.monotonic() > self._failed_at + _READ_AGAIN_SECONDS

    def cancel(self, exchange: Exchange) -> None:
        """Nobody waits for its answer any more."""
        self._pool.cancel(exchange)

    @property
    def unsent(self) -> int:
        """How many bytes of requests wait for the broker to take them."""
        return self._pool.unsent

    def pause(self) -> None:
        """Read no streamed answer for now."""
        self._pool.pause()

    def resume(self) -> None:
        """Read them again."""
        self._pool.resume()

    def answered(self) -> None:
        """The broker has answered, whatever it said."""
        self._away_since = 0.0

    def away(self, error: PercallError) -> PercallError:
        """The error for a request that got no answer, with since when there has been none."""
        if not isinstance(error, BrokerUnreachable):
            return error
        self._away_since = self._away_since or time.time()
        since = time.strftime("%H:%M", time.localtime(self._away_since))
        return BrokerUnreachable(
            error.code, f"Broker unreachable since {since}, retrying. {error.message}", error.next_step
        )

    def exchange(self, exchange: Exchange) -> None:
        """Hand an exchange to the connections."""
        self._pool.send(exchange)

    def warm(self) -> None:
        """Get a connection, a nonce and what signing takes before the first request needs them: the helper reads yet.

        Where that fails, the first request finds out why.
        """
        head = request_head(self.signer.address, "GET", wire.PATH_NONCE, [], 0)
        self._pool.send(Exchange(head, lambda _status, headers, _body: self.signer.take_nonce(headers), lambda _: None))
        from percall import proof  # noqa: F401, PLC0415 - loads libsodium; meanwhile a thread connects

    def close(self) -> None:
        """Close the connections, and end the helper process."""
        self._pool.close()
        self._without_reader()()

    def read_identity(self) -> None:
        """Start the helper process that reads the keyring, unless it was started before us."""
        from percall import identity, own_memory  # noqa: PLC0415 - after the child's start

        own_memory.close()
        own_memory.share()
        self.signer.start_over()
        self._answer = b""
        try:
            self._reader = self._reader or identity.start_reader(self._login.grant)
        except OSError as error:
            self._rejected(IdentityError("keyring.reader", f"The keyring's helper cannot be started: {error}."))
            return
        assert self._reader.stdout is not None  # noqa: S101 - start_reader pipes it
        self._reader_descriptor = system.incoming(self._reader.stdout)
        self._loop.watch(self._reader_descriptor, READ, self._read)
        self._patience = self._loop.later(_READER_SECONDS, self._too_slow)

    def _read(self, _events: int) -> None:
        from percall import identity  # noqa: PLC0415 - loaded when the helper was started

        if self._reader is None:
            return
        data = system.read(self._reader_descriptor, _READ_BYTES)
        self._answer += data
        if data and not data.endswith(b"\n") and len(self._answer) <= _READ_BYTES:
            return
        end_reader = self._without_reader()
        answer, self._answer = self._answer, b""
        try:
            found = identity.read_answer(answer)
            self.signer.accept(found.seed, found.token, found.proxy_password)
        except PercallError as error:
            self._rejected(error)
        else:
            self._resume()
        end_reader()  # after those who waited for its answer

    def _too_slow(self) -> None:
        self._without_reader()()
        self._rejected(
            IdentityError("keyring.silent", "The keyring did not answer.", "Unlock it, then try the call again.")
        )

    def _without_reader(self) -> Callable[[], None]:
        """Listen to the helper no more; what is returned ends it."""
        reader, self._reader = self._reader, None
        self._loop.unwatch(self._reader_descriptor)
        if self._patience is not None:
            self._patience.cancel()

        def end() -> None:
            if reader is not None and reader.stdout is not None:
                reader.kill()
                reader.stdout.close()
                reader.wait()

        return end

    def _rejected(self, error: PercallError) -> None:
        self._failed_at = time.monotonic()
        self.signer.reject(error)
        self._resume()

    def _resume(self) -> None:
        waiting, self._waiting = self._waiting, []
        for send in waiting:
            send()


class SignedRequest:
    """One request on its way, signed when it is sent, with the one repetition that a nonce may take.

    `answered` gets the status, the headers and the body, whatever the status. `headers` come on top of those that sign.
    `once`: it does something each time that it is taken; where its connection breaks, it goes out again under the id
    that its proof had, which a broker takes but once. Every other gets a new one. For the rest see `Exchange`.
    """

    __slots__ = (
        "_answered",
        "_began",
        "_body",
        "_broker",
        "_ended",
        "_exchange",
        "_failed",
        "_headers",
        "_is_again",
        "_is_repeated",
        "_jti",
        "_method",
        "_once",
        "_path",
        "_patience",
        "_stream",
        "is_cancelled",
        "was_sent",
    )

    def __init__(
        self,
        broker: Broker,
        method: str,
        path: str,
        body: bytes,
        answered: Callable[[int, dict[str, str], bytes], None],
        failed: Callable[[PercallError], None],
        stream: Callable[[bytes], None] | None = None,
        *,
        headers: Sequence[tuple[str, str]] = (),
        began: Callable[[dict[str, str]], None] | None = None,
        ended: Callable[[], None] | None = None,
        patience: float | None = None,
        once: bool = False,
    ) -> None:
        self._broker = broker
        self._method = method
        self._path = path
        self._body = body
        self._answered = answered
        self._failed = failed
        self._stream = stream
        self._headers = headers
        self._began = began
        self._ended = ended
        self._patience = patience
        self._once = once
        self._is_again = False
        self._jti = ""
        self._is_repeated = False
        self._exchange: Exchange | None = None
        self.is_cancelled = False
        self.was_sent = False
        """Whether the broker may have seen any of it; known once it is over."""

    def cancel(self) -> None:
        """Nobody waits for the answer any more: nothing is told of it, and its connection is closed."""
        self.is_cancelled = True
        if self._exchange is not None:
            self._broker.cancel(self._exchange)

    def send(self) -> None:
        """Sign and send."""
        if self.is_cancelled:
            return
        signer = self._broker.signer
        if signer.failure is not None:
            self._failed(signer.failure)
            return
        from percall.proof import digest  # noqa: PLC0415 - loads libsodium, which a start need not wait for

        again = self._jti if self._once and self._is_again else ""
        self._jti, headers = signer.headers(self._method, self._path, digest(self._body), again)
        head = request_head(signer.address, self._method, self._path, [*headers, *self._headers], len(self._body))
        self._exchange = Exchange(
            head + self._body,
            self._came,
            self._broken,
            self._streamed if self._stream is not None else None,
            began=self._began,
            ended=self._ended,
            patience=self._patience,
            again=self._again,
            once=self._once,
        )
        self._exchange.is_retry = self._is_again
        self._broker.exchange(self._exchange)

    def _again(self) -> None:
        """The connection broke before an answer began."""
        self._is_again = True
        self.send()

    def _streamed(self, piece: bytes) -> None:
        self._broker.answered()
        if self._stream is not None:
            self._stream(piece)

    def _came(self, status: int, headers: dict[str, str], body: bytes) -> None:
        signer = self._broker.signer
        signer.take_nonce(headers)
        self._broker.answered()
        was_retry = self._exchange is not None and self._exchange.is_retry
        self.was_sent, self._exchange = True, None  # it names this one: both would wait for the collector
        if self._once and was_retry and status == _UNAUTHORISED:
            self._failed(_lost(self._broker.signer.address))
        elif wants_nonce(status, headers) and not self._is_repeated:
            self._is_repeated = True
            self.send()
        else:
            self._answered(status, headers, body)

    def _broken(self, error: PercallError) -> None:
        self.was_sent = self._exchange is not None and self._exchange.was_sent
        self._failed(self._broker.away(error))


def _lost(address: Address) -> BrokerUnreachable:
    """The broker has taken the request before, or does not say: its answer was lost with a connection."""
    return BrokerUnreachable("broker.lost", f"The answer of the broker {address.url('')} was lost on the way.")
