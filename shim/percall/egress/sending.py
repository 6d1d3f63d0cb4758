"""What the listener asks of the connection to the broker, and the message that it sends there.

The message is `wire.join(head, body)`, with the body left where it was spooled: it is never in memory as a whole.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Protocol

from percall import wire
from percall.errors import BrokerUnreachable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from percall.egress.spool import Spool


class AnswerLost(BrokerUnreachable):
    """The message went out, and no answer came: the upstream may have got the request."""

    def __init__(self, why: str) -> None:
        message = f"{why} Whether the upstream got the request is unknown."
        super().__init__("egress.unknown", message, "Look at the upstream before trying again.")


class Message:
    """One message: a head on one line, then a spooled body. `digest` is the SHA-256 of all of it."""

    def __init__(self, head: Mapping[str, Any], body: Spool) -> None:
        self._line = wire.join(head)
        self._body = body
        self.length = len(self._line) + body.length
        state = hashlib.sha256()
        for chunk in self.chunks():
            state.update(chunk)
        self.digest = state.digest()

    def __repr__(self) -> str:
        """Without the content, for logs."""
        return f"Message(length={self.length})"

    def chunks(self) -> Iterator[bytes]:
        """The message's bytes, from the beginning each time: a request may have to be sent again with a nonce."""
        yield self._line
        yield from self._body.chunks()


class BrokerAnswer(Protocol):
    """The broker's answer, as it arrives. Leaving `chunks` early, or ending it, is followed by one `close`."""

    status: int

    def chunks(self) -> Iterator[bytes]:
        """The body, piece by piece, as it comes. Raises BrokerUnreachable when it ends before its time, WireError when
        it cannot be read.
        """

    def close(self) -> None:
        """Give the connection back, or end it when the body was not read to its end. Harmless when repeated.

        Another thread may call this while one waits in `chunks`, which then raises.
        """


class BrokerSender(Protocol):
    """Signs and sends one request; called from the listener's threads, several at once.

    A nonce that the broker asks for is dealt with here, by sending the message again.
    """

    def __call__(self, path: str, message: Message) -> BrokerAnswer:
        """POST the message to a path of the broker. Returns when the answer's head has arrived, whatever its status.

        Raises PercallError when nothing can be signed, or nobody is reached; AnswerLost when it was sent and no answer
        comes.
        """
