"""One connection of the child: its requests one after another, each handed to the broker and its answer streamed back.

A head is looked at strictly before h11 parses it. Every request gets a fresh parser, so that no bytes of the next one
are read before that look.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from typing import TYPE_CHECKING

import h11

from percall import wire
from percall.egress import admission, request_head, tunnel
from percall.egress.admission import Destination, Refused
from percall.egress.origins import parse_authority
from percall.egress.sending import AnswerLost, Message
from percall.egress.spool import Spool
from percall.errors import BrokerUnreachable, PercallError, WireError
from percall.http1 import not_a_brokers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from percall.egress.listener import Listener
    from percall.egress.origins import Origin
    from percall.egress.request_head import RequestHead
    from percall.egress.sending import BrokerAnswer

_IDLE_SECONDS = 600.0
"""How long the child may rest between two requests."""
_REQUEST_SECONDS = 120.0
"""How long it may take for a head, and for each further piece of a body."""
_STRANGER_SECONDS = 10.0
"""How long a connection may take to show a secret: any program of the machine can make one."""
_LEAST_SECONDS = 0.001  # a socket's time-out of 0 means that it never waits
_LINGER_SECONDS = 2.0
"""How long the child may be silent while the rest of a refused request is read."""
_LINGER_BYTES = wire.MAX_EGRESS_BODY_BYTES
"""How much of that is read."""
_RECEIVE_BYTES = 128 * 1024
_OK, _FORBIDDEN, _TOO_LARGE, _BAD_GATEWAY, _UNAVAILABLE = 200, 403, 413, 502, 503
_FIRST_FINAL, _LAST_STATUS, _SERVER_ERROR = 200, 599, 500
_MAX_ERROR_BYTES = 256 * 1024
# Alt-Svc would lead the child past the listener.
_NOT_RETURNED = request_head.BETWEEN_NEIGHBOURS - {"content-length"} | {"alt-svc"}


class Conversation:
    """Serves one accepted connection on a thread of its own."""

    def __init__(self, listener: Listener, connection: socket.socket) -> None:
        self._listener = listener
        self._socket = connection
        self._buffer = b""
        self._tunnel: Origin | None = None
        self._answer: BrokerAnswer | None = None
        self._is_cut = False
        self.is_admitted = False
        """Whether it has shown a secret of the child's."""

    def run(self) -> None:
        """Serve until the child leaves, or something cannot be understood any more."""
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while not self._is_cut and self._serve_one():
                pass
        except (OSError, h11.ProtocolError):
            pass  # the child has gone, or broke off: there is nobody to tell
        finally:
            self._socket.close()
            self._listener.left(self)

    def cut(self) -> None:
        """End the connection from another thread."""
        self._is_cut = True
        answer = self._answer
        if answer is not None:
            answer.close()
        with contextlib.suppress(OSError):  # it may have ended by itself
            # Not SSLSocket's own shutdown, which would take the TLS state from under the thread that reads.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    # --- one request --------------------------------------------------------------------------------------------------

    def _serve_one(self) -> bool:  # noqa: PLR0911 - each return is one way to end
        """Whether the connection can carry another request."""
        raw = self._read_head()
        if raw is None:
            return False
        try:
            head = request_head.read(raw)
        except WireError as error:
            return self._refuse_and_leave(error, 400)
        if head.method == "CONNECT" and self._tunnel is None:
            return self._connect(head)
        parser = h11.Connection(h11.SERVER, max_incomplete_event_size=request_head.MAX_HEAD_BYTES)
        parser.receive_data(raw + self._buffer)
        self._buffer = b""
        if not isinstance(parser.next_event(), h11.Request):
            return False
        spool = Spool()
        try:
            destination = self._destination(head)
            self.is_admitted = True
            is_listed = self._listener.listed.covers(destination.origin)
            if not is_listed and (destination.is_base_url or self._listener.entry.unlisted_hosts != "tunnel"):
                raise self._unlisted(destination.origin)
            self._read_body(parser, spool)
            if is_listed:
                self._forward(parser, head, destination, spool)
            else:
                tunnel.forward_in_clear(self._socket, head, destination, spool)
                return False
        except PercallError as error:
            return self._refuse(parser, head, error)
        finally:
            spool.close()
        return self._finish(parser)

    def _read_head(self) -> bytes | None:
        limit = time.monotonic() + (_IDLE_SECONDS if self.is_admitted else _STRANGER_SECONDS)
        while (end := self._buffer.find(request_head.END)) < 0:
            if len(self._buffer) > request_head.MAX_HEAD_BYTES:
                self._refuse_and_leave(WireError("http.head", "The request's head is too long."), 431)
                return None
            self._socket.settimeout(max(_LEAST_SECONDS, limit - time.monotonic()))
            data = self._socket.recv(_RECEIVE_BYTES)
            if not data:
                return None
            if not self._buffer and self.is_admitted:
                limit = time.monotonic() + _REQUEST_SECONDS
            # A request may be preceded by one empty line, and by nothing else (RFC 9112, 2.2).
            self._buffer = (self._buffer + data).removeprefix(b"\r\n") if not self._buffer else self._buffer + data
        self._socket.settimeout(_REQUEST_SECONDS)
        end += len(request_head.END)
        raw, self._buffer = self._buffer[:end], self._buffer[end:]
        return raw

    def _read_body(self, parser: h11.Connection, spool: Spool) -> None:
        """Raises Refused when it is too large or cannot be kept."""
        while True:
            if parser.they_are_waiting_for_100_continue:
                self._socket.sendall(parser.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
            event = parser.next_event()
            if event is h11.NEED_DATA:
                data = self._socket.recv(_RECEIVE_BYTES)
                parser.receive_data(data)
            elif isinstance(event, h11.Data):
                try:
                    spool.add(event.data)
                except WireError as error:
                    raise Refused(_TOO_LARGE, error.code, error.message, error.next_step) from None
                except OSError as error:
                    raise Refused(
                        507, "egress.spool", f"The request's body cannot be kept: {error.strerror}."
                    ) from None
            else:
                return

    def _destination(self, head: RequestHead) -> Destination:
        if self._tunnel is not None:
            return admission.in_tunnel(head, self._tunnel)
        if admission.is_origin_form(head):
            return admission.by_path(self._listener, head, head.target)
        scheme, separator, rest = head.target.partition("://")
        if not separator or scheme.lower() not in {"http", "https"}:
            raise WireError("http.ambiguous", "The request is refused: its target is neither a path nor an http URL.")
        destination = admission.by_absolute_url(head, scheme.lower(), rest)
        if destination.origin == parse_authority("http", f"127.0.0.1:{self._listener.port}"):
            return admission.by_path(self._listener, head, destination.path)
        if not admission.shows_proxy_credentials(self._listener, head) and not admission.shows_placeholder(
            self._listener, head
        ):
            raise _unauthenticated()
        return destination

    def _unlisted(self, origin: Origin) -> Refused:
        return Refused(
            _FORBIDDEN,
            "egress.host",
            f"{origin} is not among the hosts of the server {self._listener.entry.name!r}.",
            "An administrator can add the host to the server's entry.",
        )

    # --- to the broker ------------------------------------------------------------------------------------------------

    def _forward(self, parser: h11.Connection, head: RequestHead, destination: Destination, spool: Spool) -> None:
        """Send the request to the broker and stream what comes back. Raises PercallError before a byte went out."""
        answer = self._ask(head, destination, spool)
        self._answer = answer
        try:
            chunks = answer.chunks()
            line, rest = _first_line(chunks)
            upstream = wire.decode(wire.EgressAnswer, wire.strict_json(line))
            if not _FIRST_FINAL <= upstream.status <= _LAST_STATUS:
                raise WireError("wire.status", "The broker's answer has no final status.")
            has_body = head.method != "HEAD" and upstream.status not in {204, 304}
            try:
                started = parser.send(
                    h11.Response(
                        status_code=upstream.status, headers=_returned(upstream.headers, self._listener, destination)
                    )
                )
            except h11.LocalProtocolError:
                raise WireError("wire.headers", "The upstream's headers cannot be passed on.") from None
            self._stream(parser, started or b"", rest, chunks, has_body=has_body)
        finally:
            self._answer = None
            answer.close()

    def _stream(
        self, parser: h11.Connection, started: bytes, rest: bytes, chunks: Iterator[bytes], *, has_body: bool
    ) -> None:
        if rest and has_body:
            started += parser.send(h11.Data(data=rest)) or b""
        self._socket.sendall(started)
        try:
            for chunk in chunks:
                if has_body and chunk:
                    for piece in parser.send_with_data_passthrough(h11.Data(data=chunk)) or ():
                        self._socket.sendall(piece)
        except PercallError as error:
            # The head has gone out: the child must see a broken answer, not a short one.
            raise ConnectionAbortedError(str(error)) from None
        if self._is_cut:  # what was read last may be the end of the connection rather than of the answer
            raise ConnectionAbortedError
        if end := parser.send(h11.EndOfMessage()):
            self._socket.sendall(end)

    def _ask(self, head: RequestHead, destination: Destination, spool: Spool) -> BrokerAnswer:
        """The broker's answer of status 200. Raises PercallError for every other."""
        listener = self._listener
        is_second = False
        while True:
            windows = listener.redemptions.claim()
            redeemed = False
            try:
                if not windows and not listener.entry.startup:
                    raise _no_window(listener.entry.name)
                request = wire.EgressRequest(
                    server=listener.entry.name,
                    method=head.method,
                    url=destination.url,
                    headers=head.sent_on(),
                    placeholder=listener.placeholder,
                    windows=windows,
                )
                answer = listener.send(wire.PATH_EGRESS, Message(wire.encode(request), spool))
                if answer.status == _OK:
                    redeemed = True
                    return answer
                error = _refusal(answer)
                redeemed = error.code == wire.CODE_CREDENTIAL_USED
            finally:
                listener.redemptions.release(windows, redeemed=redeemed)
            # Used by a request whose answer was lost: the window is open, and this request went nowhere.
            if not redeemed or is_second:
                raise error
            is_second = True

    # --- refusals -----------------------------------------------------------------------------------------------------

    def _refuse(self, parser: h11.Connection, head: RequestHead, error: PercallError) -> bool:
        """Answer with a refusal; whether the connection can carry another request."""
        if parser.our_state not in {h11.SEND_RESPONSE, h11.IDLE}:
            raise ConnectionAbortedError(str(error))
        body = _body_of(error)
        status = _status_of(error)
        headers = [("content-type", "application/json"), ("content-length", str(len(body)))]
        if isinstance(error, AnswerLost):
            # Many API clients repeat a 502 by themselves, and some of them ask this first.
            headers.append(("x-should-retry", "false"))
        if status == 407:  # noqa: PLR2004 - RFC 9110
            headers.append(("proxy-authenticate", 'Basic realm="percall"'))
        is_at_end = parser.their_state in {h11.DONE, h11.MUST_CLOSE}
        if not is_at_end:
            headers.append(("connection", "close"))
        data = parser.send(h11.Response(status_code=status, headers=headers)) or b""
        if head.method != "HEAD":  # whose answer says how long the body would be, and has none
            data += parser.send(h11.Data(data=body)) or b""
        self._socket.sendall(data + (parser.send(h11.EndOfMessage()) or b""))
        if not is_at_end:
            self._linger()
            return False
        return self._finish(parser)

    def _refuse_and_leave(self, error: PercallError, status: int) -> bool:
        body = _body_of(error)
        extra = b'proxy-authenticate: Basic realm="percall"\r\n' if status == 407 else b""  # noqa: PLR2004 - RFC 9110
        self._socket.sendall(
            b"HTTP/1.1 %d Refused\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
            b"%sconnection: close\r\n\r\n%s" % (status, len(body), extra, body)
        )
        self._linger()
        return False

    def _linger(self) -> None:
        """Read on for a moment: closing with bytes unread would take the refusal away from the child."""
        socket.socket.shutdown(self._socket, socket.SHUT_WR)
        self._socket.settimeout(_LINGER_SECONDS)
        left = _LINGER_BYTES
        while left > 0 and (data := self._socket.recv(_RECEIVE_BYTES)):
            left -= len(data)

    def _finish(self, parser: h11.Connection) -> bool:
        if parser.our_state is not h11.DONE or parser.their_state is not h11.DONE:
            return False
        self._buffer, is_closed = parser.trailing_data
        return not is_closed

    # --- CONNECT ------------------------------------------------------------------------------------------------------

    def _connect(self, head: RequestHead) -> bool:
        try:
            if not admission.shows_proxy_credentials(self._listener, head):
                raise _unauthenticated()
            self.is_admitted = True
            origin = parse_authority("https", head.target)
            if self._listener.listed.covers(origin) and self._listener.authority is not None:
                self._socket.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                self._begin_tls(origin)
                return True
            if self._listener.listed.covers(origin) or self._listener.entry.unlisted_hosts != "tunnel":
                raise self._unlisted(origin)
            upstream = tunnel.connect(origin)
        except PercallError as error:
            return self._refuse_and_leave(error, _status_of(error))
        with upstream:
            self._socket.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            tunnel.relay(self._socket, upstream, self._buffer)
        return False

    def _begin_tls(self, origin: Origin) -> None:
        if self._buffer:
            raise ConnectionAbortedError("the child spoke before the tunnel stood")
        assert self._listener.authority is not None  # noqa: S101 - the caller looked
        context = self._listener.authority.context()
        self._socket.settimeout(_REQUEST_SECONDS)
        self._socket = context.wrap_socket(self._socket, server_side=True)
        self._tunnel = origin


def _returned(
    headers: tuple[tuple[str, str], ...], listener: Listener, destination: Destination
) -> list[tuple[bytes, bytes]]:
    lower = tuple((name.lower(), value) for name, value in headers)
    left_out = _NOT_RETURNED | request_head.named_by_connection(lower)
    kept = []
    for name, value in lower:
        if name in left_out:
            continue
        text = _location(value, listener, destination) if name == "location" and destination.is_base_url else value
        try:
            kept.append((name.encode("ascii"), text.encode("latin-1")))
        except UnicodeEncodeError:
            raise WireError("wire.headers", "The upstream's headers cannot be passed on.") from None
    return kept


def _location(value: str, listener: Listener, destination: Destination) -> str:
    """A redirect of a listed origin stays in the base URL's form: the child would follow it past the listener."""
    if value.startswith("/") and not value.startswith("//"):
        return listener.base_url(destination.origin) + value
    scheme, separator, rest = value.partition("://")
    if not separator or scheme not in {"http", "https"}:
        return value
    authority = rest.partition("/")[0].partition("?")[0].partition("#")[0]
    try:
        origin = parse_authority(scheme, authority)
    except WireError:
        return value
    return listener.base_url(origin) + rest[len(authority) :] if listener.listed.covers(origin) else value


def _first_line(chunks: Iterator[bytes]) -> tuple[bytes, bytes]:
    gathered = b""
    with _lost_if_broken():
        for chunk in chunks:
            gathered += chunk
            line, newline, rest = gathered.partition(b"\n")
            if newline:
                return line, rest
            if len(gathered) > wire.MAX_HEAD_BYTES:
                break
    raise AnswerLost("The broker's answer has no head.")


@contextlib.contextmanager
def _lost_if_broken() -> Iterator[None]:
    """Of a broker that has begun to answer, nobody may say that it was away, and the request not made."""
    try:
        yield
    except (BrokerUnreachable, WireError) as error:
        raise AnswerLost(error.message) from None


def _refusal(answer: BrokerAnswer) -> PercallError:
    """What a status other than 200 says, in the broker's own words."""
    body = b""
    try:
        with _lost_if_broken():
            for chunk in answer.chunks():
                body += chunk
                if len(body) > _MAX_ERROR_BYTES:
                    break
    finally:
        answer.close()
    status = answer.status if answer.status >= 400 else _BAD_GATEWAY  # noqa: PLR2004 - client errors begin here
    # A 401 or 407 would make the child doubt its own key, or its proxy: these are between shim and broker.
    if status in {401, 407}:
        status = _FORBIDDEN
    refusal = wire.refusal_in(body)
    if refusal is None:
        return AnswerLost(not_a_brokers(answer.status, "the broker's address").message)
    return Refused(status, refusal.code, refusal.message, refusal.next_step)


def _status_of(error: PercallError) -> int:
    if isinstance(error, Refused):
        return error.status
    if isinstance(error, AnswerLost):
        return _BAD_GATEWAY
    if isinstance(error, BrokerUnreachable):
        return _UNAVAILABLE
    if isinstance(error, WireError):
        return _BAD_GATEWAY if error.code.startswith(("wire.", "json.")) else 400
    return _FORBIDDEN


def _body_of(error: PercallError) -> bytes:
    """The broker's form of an error; `message` stands outside too, where many API clients look for it."""
    inner = {"code": error.code, "message": error.message, "next_step": error.next_step}
    return json.dumps({"message": f"Percall: {error}", "error": inner}).encode()


def _no_window(server: str) -> Refused:
    return Refused(
        _FORBIDDEN,
        "egress.no_window",
        f"The server {server!r} made an API request while no permitted tool call was open.",
        "Requests carry a key only during a call. An administrator can list what it needs at its start.",
    )


def _unauthenticated() -> Refused:
    return Refused(
        407,
        "egress.proxy_credentials",
        "This proxy serves one MCP server's own requests; the credentials that it was given are missing.",
        "Use the proxy variables that Percall put into the server's environment, unchanged.",
    )
