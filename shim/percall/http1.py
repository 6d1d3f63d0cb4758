"""HTTP/1.1 towards the broker, without input or output of its own: a request builder and a response reader.

One small client serves the poll loop (which feeds the reader what arrives) and the egress listener's threads (which
use the blocking `Connection` below). Ambiguous answers are refused, never interpreted; nothing is followed or retried.
"""

from __future__ import annotations

from percall.errors import BrokerUnreachable, UsageError, WireError
from percall.lean import dataclass

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Iterable, Iterator

    from percall.proxy import Proxy

MAX_HEAD_BYTES = 64 * 1024
_RECEIVE_BYTES = 128 * 1024
DEFAULT_PORTS = {"https": 443, "http": 80}
_MAX_PORT = 65535
_MAX_LENGTH_DIGITS = 18  # fewer than Python refuses to read, and more than any body has bytes

# OpenSSL's verification results, X509_V_ERR_*.
_NOT_YET_VALID, _EXPIRED, _OTHER_NAME, _OTHER_ADDRESS = 9, 10, 62, 64

GATEWAY, STRANGE = "broker.gateway", "broker.strange"
_GATEWAY = frozenset({502, 503, 504})
_STATUS_DIGITS = 3
_LEAST_STATUS, _SWITCHING, _FIRST_FINAL = 100, 101, 200
_MOST_INFORMATIONAL = 8
_BODYLESS = frozenset({204, 304})


@dataclass(frozen=True, slots=True)
class Address:
    """Where the broker is: its URL, taken apart, and the proxy on the way there."""

    secure: bool
    host: str
    port: int
    base: str
    proxy: Proxy | None = None

    @classmethod
    def parse(cls, url: str, proxy: str = "") -> Address:
        """Take a broker's URL apart. Raises UsageError when it is none, or plain http to another machine.

        `proxy` is the URL of a proxy that was recorded at login, empty for none.
        """
        scheme, separator, rest = url.partition("://")
        authority, slash, path = rest.partition("/")
        secure = scheme == "https"
        host, port_text = parted(authority)
        if not separator or scheme not in DEFAULT_PORTS or not host or "@" in authority or "?" in url or "#" in url:
            raise UsageError(
                "broker.url", f"{url!r} is not a broker's URL.", "Write it like https://broker.example.com."
            )
        if not secure and not is_loopback(host):
            raise UsageError(
                "broker.http", f"{url!r} would send grants in clear to another machine.", "Use an https URL."
            )
        if port_text and not is_port(port_text):
            raise UsageError(
                "broker.url", f"{url!r} has no valid port.", "Write it like https://broker.example.com:8443."
            )
        port = int(port_text) if port_text else DEFAULT_PORTS[scheme]
        if proxy and secure:
            from percall.proxy import Proxy  # noqa: PLC0415 - few have one

            return cls(secure, host, port, (slash + path).rstrip("/"), Proxy(proxy))
        return cls(secure, host, port, (slash + path).rstrip("/"))

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def scheme(self) -> str:
        """Of its URL."""
        return "https" if self.secure else "http"

    def url(self, path: str) -> str:
        """The absolute URL of a path of the broker's: what a proof's `htu` says."""
        return f"{self.scheme}://{self.authority}{self.base}{path}"


def parted(authority: str) -> tuple[str, str]:
    """The host of an authority, without the brackets of IPv6, and what stands for its port."""
    if authority.startswith("["):
        host, _, port = authority[1:].partition("]")
        return host, port.removeprefix(":")
    host, _, port = authority.partition(":")
    return host, port


def is_loopback(host: str) -> bool:
    """Whether a host, without the brackets of IPv6, is this machine whatever a name server says."""
    numbers = host.split(".")
    is_ipv4 = len(numbers) == 4 and all(_is_number(one) and len(one) <= 3 and int(one) <= 255 for one in numbers)  # noqa: PLR2004
    return host in {"localhost", "::1"} or (is_ipv4 and numbers[0] == "127")


def is_port(text: str) -> bool:
    """Whether a text is a port's number."""
    return _is_number(text) and len(text) <= len(str(_MAX_PORT)) and int(text) <= _MAX_PORT


def _is_number(text: str) -> bool:
    """Whether these are ASCII digits alone, and any; `isdigit` alone takes those of every script."""
    return text.isascii() and text.isdigit()


def request_head(address: Address, method: str, path: str, headers: Iterable[tuple[str, str]], length: int) -> bytes:
    """The head of a request with a body of `length` bytes, up to and including the empty line.

    Raises WireError for a header that holds a line break.
    """
    lines = [f"{method} {address.base}{path} HTTP/1.1", f"host: {address.authority}"]
    lines += [f"{name}: {value}" for name, value in headers]
    if length or method != "GET":
        lines.append(f"content-length: {length}")
    if any("\r" in line or "\n" in line for line in lines):
        raise WireError("http.header", "A header of the request holds a line break.")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class ResponseReader:
    """Reads one response from the bytes that are fed to it.

    After `feed`, `status` is set as soon as the head is there; `take` hands out the body's bytes so far; `complete`
    says that the response has ended, `reusable` that another may follow on the connection, `leftover` what came after.
    Raises WireError on an answer that could be read in two ways.
    """

    __slots__ = (
        "_body",
        "_buffer",
        "_informational",
        "_remaining",
        "_step",
        "complete",
        "headers",
        "reusable",
        "status",
    )

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.complete = False
        self.reusable = True
        self._buffer = b""
        self._body: list[bytes] = []
        self._informational = 0
        self._remaining = 0
        self._step = self._read_head

    @property
    def untouched(self) -> bool:
        """Whether not one byte of the response has arrived."""
        return not (self.status or self._buffer or self._informational)

    @property
    def buffered(self) -> int:
        """How many bytes of the body wait for `take`."""
        return sum(map(len, self._body))

    @property
    def leftover(self) -> bytes:
        """Bytes that came after the response's end: from a broker that keeps to the protocol there are none."""
        return self._buffer if self.complete else b""

    def feed(self, data: bytes) -> None:
        """Take in bytes as they arrived."""
        self._buffer = self._buffer + data if self._buffer else data
        while not self.complete and self._buffer and self._step():
            pass

    def feed_eof(self) -> None:
        """The connection was closed. Raises BrokerUnreachable when the response is cut short."""
        if self._step == self._read_until_eof:
            self.complete = True
        if not self.complete:
            raise BrokerUnreachable("broker.cut", "The broker closed the connection in the middle of an answer.")

    def take(self) -> bytes:
        """The body's bytes that arrived since the last time."""
        body = b"".join(self._body)
        self._body.clear()
        return body

    def _read_head(self) -> bool:
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if len(head) > MAX_HEAD_BYTES:
            raise WireError("http.head", "The broker's answer has too long a head.")
        if not separator:
            return False
        self._buffer = rest
        first, *lines = head.decode("latin-1").split("\r\n")
        version, code, *_ = *first.split(" ", 2), ""
        status = int(code) if len(code) == _STATUS_DIGITS and _is_number(code) else 0
        if version not in {"HTTP/1.1", "HTTP/1.0"} or status < _LEAST_STATUS or status == _SWITCHING:
            raise WireError("http.status", "What answers at the broker's address does not speak HTTP/1.1.")
        headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            name = name.lower()
            if not colon or not name or name != name.strip() or "\n" in line or "\r" in line:
                raise WireError("http.header", "The broker's answer has a malformed header.")
            if name in headers and name in {"content-length", "transfer-encoding"}:
                raise WireError("http.length", "The broker's answer gives its length twice.")
            headers[name] = value.strip()
        if status < _FIRST_FINAL:
            self._informational += 1
            if self._informational > _MOST_INFORMATIONAL:
                raise WireError("http.head", "The broker's answer has too many heads.")
            return True
        self.status, self.headers = status, headers
        wishes = headers.get("connection", "").lower().split(",")
        self.reusable = version == "HTTP/1.1" and "close" not in map(str.strip, wishes)
        self._frame_body(headers)
        return True

    def _frame_body(self, headers: dict[str, str]) -> None:
        encoding, length = headers.get("transfer-encoding"), headers.get("content-length")
        if encoding is not None and length is not None:
            raise WireError("http.length", "The broker's answer has both a length and chunks.")
        if self.status in _BODYLESS:
            self.complete = True
        elif encoding is not None:
            if encoding.lower() != "chunked":
                raise WireError("http.encoding", "The broker's answer has an unknown transfer encoding.")
            self._step = self._read_chunk_size
        elif length is not None:
            if not _is_number(length) or len(length) > _MAX_LENGTH_DIGITS:
                raise WireError("http.length", "The broker's answer has a malformed length.")
            self._remaining = int(length)
            self._step = self._read_counted
            self.complete = not self._remaining
        else:
            self.reusable = False
            self._step = self._read_until_eof

    def _read_counted(self) -> bool:
        piece, self._buffer = self._buffer[: self._remaining], self._buffer[self._remaining :]
        self._body.append(piece)
        self._remaining -= len(piece)
        self.complete = not self._remaining
        return False

    def _read_until_eof(self) -> bool:
        self._body.append(self._buffer)
        self._buffer = b""
        return False

    def _read_chunk_size(self) -> bool:
        line, separator, rest = self._buffer.partition(b"\r\n")
        if len(line) > MAX_HEAD_BYTES:
            raise WireError("http.chunk", "The broker's answer has a malformed chunk.")
        if not separator:
            return False
        digits = line.partition(b";")[0].strip()
        if not digits or digits.strip(b"0123456789abcdefABCDEF"):
            raise WireError("http.chunk", "The broker's answer has a malformed chunk.")
        self._buffer, self._remaining = rest, int(digits, 16)
        self._step = self._read_chunk if self._remaining else self._read_trailer
        return True

    def _read_chunk(self) -> bool:
        self._read_counted()
        self.complete = False
        if self._remaining:
            return False
        self._step = self._read_chunk_end
        return True

    def _read_chunk_end(self) -> bool:
        if len(self._buffer) < len(b"\r\n"):
            return False
        if not self._buffer.startswith(b"\r\n"):
            raise WireError("http.chunk", "The broker's answer has a malformed chunk.")
        self._buffer = self._buffer[2:]
        self._step = self._read_chunk_size
        return True

    def _read_trailer(self) -> bool:
        # As a head, behind the end of the last chunk's line: there may be no line before the empty one.
        trailer, separator, rest = (b"\r\n" + self._buffer).partition(b"\r\n\r\n")
        if len(trailer) > MAX_HEAD_BYTES:
            raise WireError("http.chunk", "The broker's answer has too long a trailer.")
        if not separator:
            return False
        self._buffer, self.complete = rest, True
        return True


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """A context that verifies the broker: the system's roots, or the one file that the login names. Raises
    BrokerUnreachable where that cannot be read.
    """
    import ssl  # noqa: PLC0415 - 30 ms that a broker on loopback http never costs

    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise BrokerUnreachable(
            "broker.ca_file",
            f"The certificates in {ca_file}, by which the broker is known, cannot be read: {reason_of(error)}.",
            "Put the file back, or log in again: `percall login … --ca-file FILE`.",
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def connect(address: Address, context: ssl.SSLContext | None, timeout: float) -> socket.socket:
    """A connected socket, with TLS where the address wants it; blocking. Raises BrokerUnreachable, which says why."""
    import socket  # noqa: PLC0415 - 5 ms that a start need not spend

    from percall.loss import notice_loss  # noqa: PLC0415 - with it

    plain: socket.socket | None = None
    proxy = address.proxy
    how = f" by way of the proxy {proxy}" if proxy else ""
    try:
        plain = socket.create_connection((proxy.host, proxy.port) if proxy else (address.host, address.port), timeout)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        notice_loss(plain)
        if proxy:
            host = f"[{address.host}]" if ":" in address.host else address.host
            proxy.open_tunnel(plain, f"{host}:{address.port}", timeout)
        if not address.secure:
            return plain
        how = ""  # what goes wrong from here on is between us and the broker
        return (context or tls_context(None)).wrap_socket(plain, server_hostname=address.host)
    except (OSError, BrokerUnreachable) as error:
        if plain is not None:
            plain.close()
        if isinstance(error, OSError):
            raise unreachable(address, error, how) from None
        raise


def unreachable(address: Address, error: OSError, how: str = "") -> BrokerUnreachable:
    """The error for a broker that cannot be reached: it names the broker, the reason and what to look at."""
    url = address.url("")
    if hasattr(error, "verify_code"):
        return certificate_refused(url, address.host, error.verify_code)
    return BrokerUnreachable(
        "broker.unreachable",
        f"The Percall broker {url} cannot be reached{how}: {reason_of(error)}.",
        "Check the network and that the broker runs (percall status), then try again.",
    )


def not_a_brokers(status: int, place: str) -> BrokerUnreachable:
    """The error for an answer that is none of a broker's: a proxy's, whose broker is away, or something else's
    altogether. Whether a broker got the request, such an answer does not say.
    """
    if status in _GATEWAY:
        return BrokerUnreachable(
            GATEWAY,
            f"The Percall broker behind {place} is away: a proxy in front of it answers with status {status}.",
            "Try again soon; if it stays so, tell your administrator.",
        )
    return BrokerUnreachable(
        STRANGE,
        f"What answers at {place} (status {status}) is not a Percall broker.",
        "Check the broker's URL and any proxy between (percall status).",
    )


def reason_of(error: OSError) -> str:
    """Why there is no connection, in words."""
    if getattr(error, "reason", "") == "WRONG_VERSION_NUMBER":  # what OpenSSL makes of an answer in clear
        return "what answers there does not speak TLS"
    return str(error.strerror or error).rstrip(".") or type(error).__name__


def certificate_refused(url: str, host: str, verify_code: int) -> BrokerUnreachable:
    """The error for a certificate that does not hold; `verify_code` is OpenSSL's."""
    from time import gmtime, strftime  # noqa: PLC0415 - seldom needed

    now = strftime("%Y-%m-%d %H:%M UTC", gmtime())
    clock = f"Have it renewed; or is this machine's clock off? It says {now}."
    message, step = {
        _NOT_YET_VALID: ("is not valid yet", clock),
        _EXPIRED: ("has expired", clock),
        _OTHER_NAME: _other_name(host),
        _OTHER_ADDRESS: _other_name(host),
    }.get(
        verify_code,
        (
            "was issued by nobody this machine trusts",
            "Name the authority's certificate: `percall login … --ca-file FILE`.",
        ),
    )
    return BrokerUnreachable("broker.certificate", f"The certificate of {url} {message}.", step)


def _other_name(host: str) -> tuple[str, str]:
    return f"is for another name than {host}", "Use the broker's public URL, or have its certificate issued for it."


class Response:
    """A response whose head has been read. Iterate over it for the body, to its end; `close` gives up on it."""

    def __init__(self, connection: Connection, reader: ResponseReader) -> None:
        self.status = reader.status
        self.headers = reader.headers
        self._connection = connection
        self._reader = reader

    def __iter__(self) -> Iterator[bytes]:
        while True:
            piece = self._reader.take()
            if piece:
                yield piece
            elif self._reader.complete:
                return
            else:
                self._connection.receive(self._reader)

    def read(self, limit: int) -> bytes:
        """The whole body. Raises WireError when it is longer than `limit`."""
        pieces: list[bytes] = []
        length = 0
        for piece in self:
            length += len(piece)
            if length > limit:
                self.close()
                raise WireError("http.body", "The broker's answer is too long.")
            pieces.append(piece)
        return b"".join(pieces)

    @property
    def reusable(self) -> bool:
        """Whether the connection can carry another request."""
        return self._reader.complete and self._reader.reusable and not self._reader.leftover

    def close(self) -> None:
        """Give up on the rest of the body, and on the connection."""
        self._connection.close()


class Connection:
    """A blocking connection for the egress listener's threads: one request after another.

    Raises BrokerUnreachable when it cannot connect, is cut, or waits longer than `timeout` seconds for the next byte.
    """

    def __init__(self, address: Address, context: ssl.SSLContext | None, timeout: float) -> None:
        self._address = address
        self._socket = connect(address, context, timeout)

    def request(
        self, method: str, path: str, headers: Iterable[tuple[str, str]], body: Iterable[bytes], length: int
    ) -> Response:
        """Send one request, and read the answer's head."""
        try:
            head = request_head(self._address, method, path, headers, length)
            for piece in body:
                if head:
                    self._socket.sendall(head + piece)
                    head = b""
                else:
                    self._socket.sendall(piece)
            if head:
                self._socket.sendall(head)
        except OSError as error:
            self.close()
            raise unreachable(self._address, error) from None
        reader = ResponseReader()
        while not reader.status:
            self.receive(reader)
        return Response(self, reader)

    def receive(self, reader: ResponseReader) -> None:
        """Wait for the next bytes."""
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
        except OSError as error:
            self.close()
            raise unreachable(self._address, error) from None
        if data:
            reader.feed(data)
        else:
            self.close()
            reader.feed_eof()

    def is_stale(self) -> bool:
        """Whether the broker has closed the idle connection (or sent what nobody asked for)."""
        from percall import system  # noqa: PLC0415 - where a connection is used again

        poll = system.Poll()
        try:
            poll.register(self._socket.fileno(), system.READ)
        except (OSError, ValueError):
            return True
        return bool(poll.poll(0))

    def close(self) -> None:
        """Close the socket, also under a thread that waits for its next byte."""
        import socket  # noqa: PLC0415 - loaded since `connect`
        from contextlib import suppress  # noqa: PLC0415 - the same

        with suppress(OSError):  # the other side may have been first
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        self._socket.close()
