"""Signed requests from the commands: login, status, log, trust, and the broker's own administration.

The call path of `percall run` has its own, smaller client. This one follows no redirect and reads no setting from the
environment, so that a grant token goes to the enrolled broker alone, by way of the proxy that the login recorded.
"""

from __future__ import annotations

import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import unquote, urlsplit

import httpx

from percall import wire
from percall.errors import BrokerRefusal, BrokerUnreachable, IdentityError, PercallError, UsageError, WireError
from percall.http1 import certificate_refused, reason_of
from percall.identity import keyrings, presence, proxies
from percall.proof import DeviceKey, digest
from percall.proxy import connection_refused, credentials_refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType

    from percall.home import Login
    from percall.identity import Identity
    from percall.identity.presence import PresenceSigner

T = TypeVar("T")

TIMEOUT_SECONDS = 15.0
_UNAUTHORISED = 401
_AUTOMATION = (
    " A program administers with a grant of its own: percall-broker grant create NAME --automation --may AREAS."
)
_MOST_BYTES = 64 * 1024 * 1024


class SignedClient:
    """A broker, seen with one grant. Its methods raise BrokerUnreachable, BrokerRefusal or WireError."""

    def __init__(self, login: Login, key: DeviceKey, token: str, proxy: httpx.Proxy | None = None) -> None:
        self.broker, self._key, self._token = login.broker, key, token
        self._grant = login.grant
        self._proxy = proxy
        self._nonce = ""
        self._presence: PresenceSigner | None = None
        self.more: dict[str, str] = {}
        """Headers beside the signature's own, on each request."""
        self._http = open_http(login.broker, login.ca_file, proxy)

    @classmethod
    def of(cls, login: Login) -> Self:
        """The client of a login; reads its keyring. Raises IdentityError or UsageError."""
        return cls.with_identity(login, keyrings.load(login))

    @classmethod
    def with_identity(cls, login: Login, found: Identity) -> Self:
        """The client of a login whose secrets have been read."""
        proxy = proxies.for_httpx(login.proxy, found.proxy_password)
        return cls(login, DeviceKey(found.seed), found.token, proxy)

    def __enter__(self) -> Self:
        """The client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes its connections."""
        self._http.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes = b"",
        media_type: str = "application/json",
        query: Mapping[str, str] | None = None,
        patience: float | None = None,
    ) -> httpx.Response:
        """One request, its body covered by the signature; the answer has been read to its end. `patience` is how many
        seconds it may be silent, where that is not the usual.

        Where the broker wants the person's presence, the passphrase is asked for at the terminal, once a client, and
        the request is made again. Raises IdentityError when there is no terminal.
        """
        try:
            return self._request(method, path, body, media_type, query, patience)
        except BrokerRefusal as refused:
            if refused.code != wire.CODE_PRESENCE or self._presence is not None:
                raise
            try:
                self.ask_presence()
            except IdentityError as error:
                if error.code == "presence.no_terminal" and path.startswith(wire.PATH_ADMIN):
                    error.next_step += _AUTOMATION
                raise
            return self._request(method, path, body, media_type, query, patience)

    def ask_presence(self, prompt: str = presence.PROMPT) -> None:
        """Asks for the passphrase: from now on, each request carries the person's presence. Raises IdentityError."""
        stretch = self.session().stretch
        if stretch is None:
            raise presence.unset()
        self._presence = presence.from_terminal(stretch, prompt)

    def share_presence(self, other: SignedClient) -> None:
        """Uses the passphrase that was typed for another client of the same person at the same broker, if it was."""
        self._presence = self._presence or other._presence

    def _request(
        self,
        method: str,
        path: str,
        body: bytes,
        media_type: str,
        query: Mapping[str, str] | None,
        patience: float | None,
    ) -> httpx.Response:
        timeout = TIMEOUT_SECONDS if patience is None else patience
        with self.stream(method, path, body=body, media_type=media_type, query=query, timeout=timeout) as answer:
            with named_failures(self.broker, self._proxy):
                answer.read()
            return answer

    def json(
        self,
        method: str,
        path: str,
        *,
        value: Any = None,
        query: Mapping[str, str] | None = None,
        patience: float | None = None,
    ) -> Any:
        """Sends one JSON value (none when absent) and reads one; None where the answer is empty."""
        body = b"" if value is None else wire.dump(value)
        answer = self.request(method, path, body=body, query=query, patience=patience)
        return wire.strict_json(answer.content) if answer.content else None

    def session(self) -> wire.Session:
        """What the grant may use, as the broker sees it now; of no other grant does it say anything here."""
        session = wire.decode(wire.Session, self.json("GET", wire.PATH_SESSION))
        if session.grant != self._grant:
            raise WireError("broker.stranger", f"{self.broker} answered for another grant: {session.grant}.")
        return session

    @contextmanager
    def stream(
        self,
        method: str,
        path: str,
        *,
        body: bytes = b"",
        media_type: str = "application/json",
        query: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Iterator[httpx.Response]:
        """One request whose answer is read by the caller, line by line; reading waits for ever unless `timeout`."""
        waits = httpx.Timeout(TIMEOUT_SECONDS, read=timeout)
        for attempt in ("first", "with the nonce"):
            request = self._http.build_request(
                method,
                self.broker + path,
                params=dict(query) if query else None,
                content=body,
                headers=self._headers(method, path, body, media_type),
                timeout=waits,
            )
            with named_failures(self.broker, self._proxy):
                answer = self._http.send(request, stream=True)
            try:
                self._nonce = answer.headers.get(wire.HEADER_NONCE, self._nonce)
                challenged = wire.NONCE_CHALLENGE in answer.headers.get("www-authenticate", "")
                if answer.status_code == _UNAUTHORISED and challenged and attempt == "first":
                    continue
                if not answer.is_success:
                    with named_failures(self.broker, self._proxy):
                        answer.read()
                    raise refusal(self.broker, answer)
                yield answer
            finally:
                answer.close()
            return

    def _headers(self, method: str, path: str, body: bytes, media_type: str) -> dict[str, str]:
        url, body_digest = self.broker + unquote(path), digest(body)  # as the broker reads the path
        jti, proof = self._key.proof(method, url, self._token, self._nonce, body_digest)
        headers = {
            "authorization": f"DPoP {self._token}",
            "dpop": proof,
            wire.HEADER_VERSION: str(wire.VERSION),
            "accept": "*/*",
            **self.more,
        }
        if self._presence is not None:
            headers[wire.HEADER_PRESENCE] = self._presence.sign(wire.presence_text(method, url, body_digest, jti))
        return {**headers, "content-type": media_type} if body else headers


def asked_of_each(
    logins: Sequence[Login], ask: Callable[[SignedClient], T]
) -> tuple[list[tuple[Login, T]], list[tuple[Login, PercallError]]]:
    """What the broker answers each login, and why it does not. Raises PercallError: the first failure, when none could
    be asked.
    """
    answers: list[tuple[Login, T]] = []
    failed: list[tuple[Login, PercallError]] = []
    for login in logins:
        try:
            with SignedClient.of(login) as broker:
                answers.append((login, ask(broker)))
        except PercallError as error:
            failed.append((login, error))
    if failed and not answers:
        raise failed[0][1]
    return answers, failed


def open_http(broker: str, ca_file: str = "", proxy: httpx.Proxy | None = None) -> httpx.Client:
    """The HTTP client of the commands, for a broker. Raises UsageError, as `trusting`.

    Towards one that speaks no TLS it trusts nobody: to read the system's roots takes 20 ms, in each command.
    """
    return httpx.Client(
        verify=trusting(ca_file) if broker.startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        proxy=proxy,
        trust_env=False,
        follow_redirects=False,
        timeout=TIMEOUT_SECONDS,
        headers={"user-agent": "percall", "accept-encoding": "identity"},
        event_hooks={"response": [_bound]},
    )


def trusting(ca_file: str) -> ssl.SSLContext:
    """Verifies by the system's roots, or only by those in a file. Raises UsageError."""
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError):
        raise UsageError(
            "login.ca_file", f"{ca_file} holds no certificates.", "Give a PEM file to --ca-file."
        ) from None


class _Bounded(httpx.SyncByteStream):
    """An answer's bytes, up to as many as one may have."""

    def __init__(self, stream: httpx.SyncByteStream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        left = _MOST_BYTES
        for piece in self._stream:
            left -= len(piece)
            if left < 0:
                raise httpx.ReadError(f"its answer is larger than {_MOST_BYTES} bytes")
            yield piece

    def close(self) -> None:
        self._stream.close()


def _bound(answer: httpx.Response) -> None:
    """Neither an endless answer nor one that grows as it is unpacked takes this machine's memory."""
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise httpx.DecodingError("its answer is compressed, which nobody asked for")
    assert isinstance(answer.stream, httpx.SyncByteStream)  # noqa: S101 - a client that is not asynchronous
    answer.stream = _Bounded(answer.stream)


@contextmanager
def named_failures(broker: str, proxy: httpx.Proxy | None = None) -> Iterator[None]:
    """Turns what can go wrong on the way into BrokerUnreachable."""
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _named(broker, proxy, error) from None


def _named(broker: str, proxy: httpx.Proxy | None, error: Exception) -> BrokerUnreachable:
    reason = str(error).strip().rstrip(".") or type(error).__name__
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return certificate_refused(broker, urlsplit(broker).hostname or "", cause.verify_code)
    if cause is not None:
        reason = reason_of(cause)
    if isinstance(error, httpx.ProxyError) and proxy is not None:
        if reason.startswith("407"):
            return credentials_refused(str(proxy.url))
        return connection_refused(str(proxy.url), urlsplit(broker).netloc, reason)
    how = f" by way of the proxy {proxy.url}" if proxy is not None else ""
    return BrokerUnreachable(
        "broker.unreachable",
        f"The broker at {broker} is unreachable{how}: {reason}.",
        "Check the URL and the network, and that `percall-broker serve` is running there.",
    )


def refusal(broker: str, answer: httpx.Response) -> BrokerRefusal:
    """The broker's own words for its no; or that whoever answered is no broker."""
    said = wire.refusal_in(answer.content)
    if said is not None:
        return BrokerRefusal(said.code, said.message, said.next_step)
    return BrokerRefusal(
        "broker.stranger",
        f"{broker} answered {answer.status_code}, and not as a Percall broker does.",
        "Check the URL.",
    )
