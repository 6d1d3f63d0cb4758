"""A browser without a page: signs in to the console, keeps its cookie, and makes changes as the page's script does."""

from __future__ import annotations

import contextlib
import http.client
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from harness.passkeys import Passkey
from harness.signing import Answer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness.signing import SigningLaptop


@dataclass
class ConsoleBrowser:
    """`origin` is where the console is; `at` where connections go."""

    origin: str
    at: str
    cookie: str = ""
    passkey: Passkey | None = None
    sent: dict[str, str] = field(default_factory=dict)
    """Headers beside, or instead of, those that a browser sends."""

    @classmethod
    def of(cls, url: str) -> Self:
        port = urlsplit(url).port
        return cls(f"http://localhost:{port}", url)

    @classmethod
    def signed_in(cls, laptop: SigningLaptop, *, enrol: bool = False) -> Self:
        """Of an administrator who opens a link; with a passkey where they enrol one."""
        browser = cls.of(laptop.url)
        made = laptop.administer("POST", "/v1/console/" + ("enrolment" if enrol else "link"))
        answer = browser.post("sign-in/link", {"code": made["link"].partition("#")[2]})
        assert answer.status == 200, answer.body
        if enrol:
            browser.passkey = Passkey(browser.origin)
            enrolled = browser.enrol("a test's passkey")
            assert enrolled.status == 200, enrolled.body
        return browser

    def exchange(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        parts = urlsplit(self.at)
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=10)
        own = {"Host": urlsplit(self.origin).netloc, **({"Cookie": self.cookie} if self.cookie else {})}
        try:
            connection.request(method, path, body or None, {**own, **(headers or {}), **self.sent})
            came = connection.getresponse()
            answer = Answer(came.status, {k.lower(): v for k, v in came.getheaders()}, came.read())
        finally:
            connection.close()
        if "set-cookie" in answer.headers:
            self.cookie = answer.headers["set-cookie"].partition(";")[0]
        return answer

    def get(self, path: str) -> Answer:
        return self.exchange("GET", "/console/" + path)

    @contextlib.contextmanager
    def events(self, since: str) -> Iterator[Iterator[str]]:
        """The names of what is new, as the stream tells them."""
        parts = urlsplit(self.at)
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=10)
        own = {"Host": urlsplit(self.origin).netloc, "Cookie": self.cookie}
        try:
            connection.request("GET", f"/console/events?live&since={since}", headers=own)
            answer = connection.getresponse()
            assert answer.status == 200
            yield (line.decode().partition(": ")[2].strip() for line in answer if line.startswith(b"event: "))
        finally:
            connection.close()

    def text(self, path: str) -> str:
        answer = self.get(path)
        assert answer.status == 200, answer.body
        return answer.body.decode()

    def post(self, path: str, value: Any = None) -> Answer:
        """As the console's script does."""
        own = {"Origin": self.origin, "Sec-Fetch-Site": "same-origin", "Accept": "application/json"}
        own |= {"Content-Type": "application/json"}
        return self.exchange("POST", "/console/" + path, json.dumps(value or {}).encode(), own)

    def enrol(self, name: str) -> Answer:
        assert self.passkey is not None
        values = {"name": name}
        asked = self.post("passkeys/ask", {"values": values})
        if asked.status != 200:
            return asked
        credential = self.passkey.create(asked.json["options"]["challenge"])
        return self.post("passkeys", {"values": values, **_ours(asked), "credential": credential})

    def by_passkey(self) -> Answer:
        """Signs in anew."""
        assert self.passkey is not None
        asked = self.post("sign-in/passkey/ask")
        credential = self.passkey.get(asked.json["options"]["challenge"])
        return self.post("sign-in/passkey", {**_ours(asked), "credential": credential})

    def ask(self, action: str, subject: str, shown: str, **values: str) -> Answer:
        """What a passkey is to sign."""
        return self.post("changes/ask", {"action": action, "subject": subject, "shown": shown, "values": values})

    def made(self, asked: Answer, credential: Any, action: str, subject: str, shown: str, **values: str) -> Answer:
        """The change, with a signature."""
        change = {"action": action, "subject": subject, "shown": shown, "values": values}
        return self.post("changes", {**change, **_ours(asked), "credential": credential})

    def change(self, action: str, subject: str, shown: str, **values: str) -> Answer:
        """Both steps."""
        assert self.passkey is not None
        asked = self.ask(action, subject, shown, **values)
        if asked.status != 200:
            return asked
        return self.made(asked, self.passkey.get(asked.json["options"]["challenge"]), action, subject, shown, **values)


def _ours(asked: Answer) -> dict[str, str]:
    return {"id": asked.json["id"], "nonce": asked.json["nonce"]}
