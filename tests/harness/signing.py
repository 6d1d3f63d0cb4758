"""A laptop without a shim: enrols, signs and sends requests itself, so that a test can also sign wrongly."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from percall import wire
from percall.identity.presence import PresenceSigner
from percall.proof import DeviceKey, base64url, digest, make_enrolment_proof

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PASSPHRASE = "a passphrase of some length"
_PATIENCE_SECONDS = 30.0


@dataclass
class Answer:
    """A status, headers in lower case, and a body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.body))

    @property
    def code(self) -> str:
        return str(self.json["error"]["code"])


@dataclass
class SigningLaptop:
    """One device key, and the grant that it was enrolled for."""

    url: str
    key: DeviceKey = field(default_factory=lambda: DeviceKey(os.urandom(32)))
    token: str = ""
    nonce: str = ""
    presence: PresenceSigner | None = None
    """Signs whatever this laptop sends: as if its person typed the passphrase each time."""
    at: str = ""
    """Where its connections go, when not to the public URL: one replica of several."""

    @classmethod
    def enrolled(cls, url: str, invite: str) -> Self:
        laptop = cls(url)
        laptop.finish(laptop.enrol(invite))
        return laptop

    @classmethod
    def of_person(cls, url: str, invite: str, passphrase: str = PASSPHRASE) -> Self:
        """Of a person who sets a passphrase with their invite."""
        signer = presence_signer(passphrase)
        laptop = cls(url)
        laptop.finish(laptop.enrol(invite, presence=signer.key))
        laptop.presence = signer
        return laptop

    def finish(self, answer: Answer) -> None:
        assert answer.status == 200, answer.body
        self.token = answer.json["token"]

    def enrol(
        self,
        invite: str,
        *,
        agent: str = "default",
        device: str = "a test's laptop",
        signer: DeviceKey | None = None,
        presence: wire.PresenceKey | None = None,
    ) -> Answer:
        """With an invite. `signer` is the key that signs it, where that is not the one that introduces itself."""
        asked = wire.Enrolment(invite, self.key.public_jwk(), agent, device, presence=presence)
        body = wire.dump(wire.encode(asked))
        jti, proof = make_enrolment_proof(signer or self.key, self.url + wire.PATH_ENROL, body)
        headers = {"DPoP": proof, "Percall-Wire": "1"}
        if self.presence is not None:
            text = wire.presence_text("POST", self.url + wire.PATH_ENROL, digest(body), jti)
            headers[wire.HEADER_PRESENCE] = self.presence.sign(text)
        return self.exchange("POST", wire.PATH_ENROL, body, headers)

    def claim(
        self,
        agent: str = "default",
        *,
        key: DeviceKey | None = None,
        introduced: bool = True,
        signer: DeviceKey | None = None,
    ) -> Answer:
        """Picks up what waits, with this laptop's own key or another's. `signer` is as in `enrol`."""
        body = wire.dump(wire.encode(wire.Claim(agent, (key or self.key).public_jwk())))
        more = {}
        if key is not None and introduced:
            more[wire.HEADER_INTRODUCTION] = make_enrolment_proof(signer or key, self.url + wire.PATH_CLAIMS, body)[1]
        return self.send("POST", wire.PATH_CLAIMS, body, more)

    def claimed(self, agent: str = "default") -> list[Self]:
        """A laptop of the same key for each grant that was picked up."""
        answer = self.claim(agent)
        assert answer.status == 200, answer.body
        return [type(self)(self.url, self.key, one["token"]) for one in answer.json["enrolled"]]

    def headers(self, method: str, path: str, body: bytes) -> dict[str, str]:
        return self.signed(method, path, body)[1]

    def signed(self, method: str, path: str, body: bytes) -> tuple[str, dict[str, str]]:
        """The proof's id, and the headers."""
        url = self.url + path.partition("?")[0]
        jti, proof = self.key.proof(method, url, self.token, self.nonce, digest(body))
        own = {"Percall-Wire": "1", "Content-Type": "application/json"}
        if self.presence is not None:
            own[wire.HEADER_PRESENCE] = self.presence.sign(wire.presence_text(method, url, digest(body), jti))
        return jti, {"Authorization": f"DPoP {self.token}", "DPoP": proof, **own}

    def connection(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.at or self.url)
        assert parts.hostname is not None
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=_PATIENCE_SECONDS)

    def exchange(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        connection = self.connection()
        try:
            connection.request(method, path, body or None, headers)
            came = connection.getresponse()
            return Answer(came.status, {k.lower(): v for k, v in came.getheaders()}, came.read())
        finally:
            connection.close()

    def send(self, method: str, path: str, body: bytes = b"", more: Mapping[str, str] | None = None) -> Answer:
        """One signed request, repeated once for a nonce. `more` are headers beside the signature's."""
        answer = self.exchange(method, path, body, {**self.headers(method, path, body), **(more or {})})
        if answer.status == 401 and "use_dpop_nonce" in answer.headers.get("www-authenticate", ""):
            self.nonce = answer.headers["dpop-nonce"]
            answer = self.exchange(method, path, body, {**self.headers(method, path, body), **(more or {})})
        return answer

    def relay(self, server: str, message: Any, more: Mapping[str, str] | None = None) -> Answer:
        """One message to a remote server; bytes go as they are."""
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        return self.send("POST", wire.PATH_RELAY + server, body, more)

    def administer(self, method: str, path: str, form: Any = None) -> Any:
        body = b"" if form is None else json.dumps(form).encode()
        answer = self.send(method, path, body)
        assert answer.status == 200, answer.body
        return json.loads(answer.body)

    def ask(self, server: str, method: str, params: Any, *, settle: tuple[wire.Settlement, ...] = ()) -> Answer:
        """Asks for a decision on one JSON-RPC request."""
        return self.send("POST", wire.PATH_CALLS, call_message(server, method, params, settle=settle))

    def call(self, server: str, tool: str, arguments: Any = None) -> dict[str, Any]:
        answer = self.ask(server, "tools/call", {"name": tool, "arguments": arguments or {}})
        assert answer.status == 200, answer.body
        return answer.json

    def settle(self, call: str, outcome: str = "done") -> Answer:
        settled = wire.Settlements((wire.Settlement(call, outcome, 5),))
        return self.send("POST", wire.PATH_SETTLEMENTS, wire.dump(wire.encode(settled)))

    def request(self, server: str, url: str, *windows: wire.Window, method: str = "GET", body: bytes = b"") -> Answer:
        """One API request of a child."""
        return self.send("POST", wire.PATH_EGRESS, egress_message(server, url, *windows, method=method, body=body))

    @contextlib.contextmanager
    def streaming(self, server: str, url: str, window: wire.Window) -> Iterator[http.client.HTTPResponse]:
        """An API request of a child whose answer has begun, and goes on."""
        message = egress_message(server, url, window)
        with contextlib.closing(self.connection()) as connection:
            connection.request("POST", wire.PATH_EGRESS, message, self.headers("POST", wire.PATH_EGRESS, message))
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            assert answer.readline()
            yield answer

    def log(self, query: str = "") -> list[dict[str, Any]]:
        answer = self.send("GET", wire.PATH_CALLS + query)
        assert answer.status == 200, answer.body
        return [json.loads(line) for line in answer.body.splitlines()]

    def events(self) -> Events:
        return Events(self)


def presence_signer(passphrase: str) -> PresenceSigner:
    """A presence key of the cheapest derivation that is accepted."""
    return PresenceSigner(passphrase, wire.Stretch("passphrase", base64url(os.urandom(16)), 2, 64 * 1024 * 1024))


def call_message(server: str, method: str, params: Any, *, settle: tuple[wire.Settlement, ...] = ()) -> bytes:
    frame = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    return wire.join(wire.encode(wire.CallRequest(server, "test 1", settle)), frame)


def egress_message(
    server: str,
    url: str,
    *windows: wire.Window,
    method: str = "GET",
    body: bytes = b"",
    headers: tuple[tuple[str, str], ...] = (("authorization", "Bearer test_placeholder"), ("accept", "*/*")),
) -> bytes:
    head = wire.EgressRequest(server, method, url, headers, "test_placeholder", tuple(windows))
    return wire.join(wire.encode(head), body)


class Events:
    """The event stream, read as it comes."""

    def __init__(self, laptop: SigningLaptop) -> None:
        laptop.send("GET", wire.PATH_SESSION)  # for a nonce
        self._connection = laptop.connection()
        self._connection.request("GET", wire.PATH_EVENTS, headers=laptop.headers("GET", wire.PATH_EVENTS, b""))
        self._answer = self._connection.getresponse()
        self.status = self._answer.status

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def next(self, wanted: str = "session") -> dict[str, Any]:
        """The data of the next event of a kind."""
        event = ""
        while True:
            line = self._answer.readline().decode()
            assert line, "the stream ended"
            name, _, value = line.rstrip("\n").partition(": ")
            if name == "event":
                event = value
            elif name == "data" and event == wanted:
                return dict(json.loads(value))

    def timed(self, wanted: str = "session") -> tuple[dict[str, Any], float]:
        """The next event, and how many seconds it took to come."""
        start = time.monotonic()
        return self.next(wanted), time.monotonic() - start
