"""How the egress listener's threads reach the broker: signed requests on up to sixteen blocking connections.

The listener says what to send (`percall.egress.sending`); this signs it with the loop's identity and nonce, and
answers piece by piece.
"""

from __future__ import annotations

from threading import BoundedSemaphore, Lock

from percall import http1, wire
from percall.egress.sending import AnswerLost
from percall.errors import BrokerUnreachable, IdentityError, WireError
from percall.run.broker import wants_nonce
from percall.run.connection import MAX_CONNECTIONS

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from percall.egress.sending import Message
    from percall.http1 import Connection, Response
    from percall.run.broker import Signer

_IDENTITY_SECONDS = 30.0
"""How long a request waits for the keyring."""
_SILENCE_SECONDS = 120.0
"""How long it waits for a free connection, and then for the next byte of its answer."""
_MAX_CHALLENGE_BYTES = 64 * 1024


class Answer:
    """The broker's answer to one message; `close` gives its connection back, or ends it."""

    def __init__(self, sender: Sender, connection: Connection, response: Response) -> None:
        self.status = response.status
        self._sender = sender
        self._connection = connection
        self._response = response
        self._lock = Lock()
        self._is_closed = False

    def chunks(self) -> Iterator[bytes]:
        """The body as it comes. Raises BrokerUnreachable when it is cut short, WireError when it cannot be read."""
        return iter(self._response)

    def close(self) -> None:
        """Give the connection back when the body was read to its end, else end it. Harmless when repeated."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        self._sender.give_back(self._connection, reusable=self._response.reusable)


class Sender:
    """Signs and sends messages; called from several threads at once."""

    def __init__(self, signer: Signer, ca_file: str | None) -> None:
        self._signer = signer
        self._ca_file = ca_file
        self._context: ssl.SSLContext | None = None
        self._lock = Lock()
        self._idle: list[Connection] = []
        self._places = BoundedSemaphore(MAX_CONNECTIONS)

    def __call__(self, path: str, message: Message) -> Answer:
        """POST the message, once more with a nonce if the broker wants one. Returns with the answer's head.

        Raises IdentityError when nothing can be signed, BrokerUnreachable when no answer comes.
        """
        if not self._signer.wait(_IDENTITY_SECONDS):
            raise IdentityError("identity.waiting", "The device key could not be read in time.")
        if not self._places.acquire(timeout=_SILENCE_SECONDS):
            raise BrokerUnreachable("broker.busy", "All connections to the broker are in use.", "Try again later.")
        try:
            connection, response = self._send(path, message)
            if wants_nonce(response.status, response.headers):
                response.read(_MAX_CHALLENGE_BYTES)
                self._put_away(connection, reusable=response.reusable)
                connection, response = self._send(path, message)
        except BaseException:
            self._places.release()
            raise
        return Answer(self, connection, response)

    def give_back(self, connection: Connection, *, reusable: bool) -> None:
        """An answer is over."""
        self._put_away(connection, reusable=reusable)
        self._places.release()

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _send(self, path: str, message: Message) -> tuple[Connection, Response]:
        from percall.proof import base64url  # noqa: PLC0415 - the child runs by now

        _, headers = self._signer.headers("POST", path, base64url(message.digest))
        headers.append(("content-type", wire.MEDIA_TYPE))
        connection = self._connection()
        try:
            response = connection.request("POST", path, headers, message.chunks(), message.length)
        except (BrokerUnreachable, WireError) as error:
            connection.close()
            raise AnswerLost(error.message) from None
        except BaseException:
            connection.close()
            raise
        self._signer.take_nonce(response.headers)
        return connection, response

    def _connection(self) -> Connection:
        """A warm connection that is still open, or a new one."""
        while True:
            with self._lock:
                if not self._idle:
                    break
                connection = self._idle.pop()
            if not connection.is_stale():
                return connection
            connection.close()
        with self._lock:
            if self._signer.address.secure and self._context is None:
                self._context = http1.tls_context(self._ca_file)
        return http1.Connection(self._signer.address, self._context, _SILENCE_SECONDS)

    def _put_away(self, connection: Connection, *, reusable: bool) -> None:
        if reusable:
            with self._lock:
                self._idle.append(connection)
        else:
            connection.close()
