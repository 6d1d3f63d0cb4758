"""uvicorn's HTTP/1.1 connection, with one difference: an answer's head goes out with the beginning of its body.

Two packets would wake the laptop twice for one small answer, and cost a second system call here.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class Connection(HttpToolsProtocol):
    """One connection of a laptop."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """A laptop has connected."""
        super().connection_made(transport)
        self.transport = HeadWithBody(transport)

    def on_response_complete(self) -> None:
        """An answer is whole: the next thing written is a head again."""
        if isinstance(self.transport, HeadWithBody):
            self.transport.answered()
        super().on_response_complete()


class HeadWithBody(asyncio.Transport):
    """A transport that keeps the first writing of each answer for the second, until the loop's next turn at most."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._head = b""
        self._awaits_head = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Now, with the head that waits; or, as the head, in a moment."""
        if self._awaits_head:
            self._awaits_head = False
            self._head = bytes(data)
            asyncio.get_running_loop().call_soon(self._flush)
        elif self._head:
            head, self._head = self._head, b""
            self._transport.write(b"".join((head, data)))  # `writelines` would send them one by one
        else:
            self._transport.write(data)

    def answered(self) -> None:
        """The answer is complete."""
        self._flush()
        self._awaits_head = True

    def _flush(self) -> None:
        head, self._head = self._head, b""
        if head:
            self._transport.write(head)

    def close(self) -> None:
        """After what was written."""
        self._flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """As the transport says."""
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As the transport says."""
        return self._transport.get_extra_info(name, default)
