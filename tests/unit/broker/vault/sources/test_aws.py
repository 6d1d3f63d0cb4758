"""AWS KMS, as a loopback server that checks each request's signature by itself (Signature Version 4)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import pytest

from harness.loopback import Listening, Quiet
from harness.processes import free_port
from percall_broker.crypto.sodium import SealBrokenError
from percall_broker.model.errors import Unavailable
from percall_broker.vault.sources import Sealed, Wrapped
from percall_broker.vault.sources.aws import AwsKeys

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.anyio
ACCESS, SECRET, REGION = "AKIATEST", "a secret access key of a test", "eu-central-1"
ARN = f"arn:aws:kms:{REGION}:111122223333:key/one"
KEY = b"k" * 32


def signature_holds(handler: BaseHTTPRequestHandler, body: bytes) -> bool:
    """Signature Version 4, written from AWS' description of it."""
    scheme, _, rest = handler.headers["Authorization"].partition(" ")
    parts = dict(part.strip().split("=", 1) for part in rest.split(","))
    access, day, region, service, closing = parts["Credential"].split("/")
    if (scheme, access, region, service, closing) != ("AWS4-HMAC-SHA256", ACCESS, REGION, "kms", "aws4_request"):
        return False
    names = parts["SignedHeaders"].split(";")
    headers = "".join(f"{name}:{' '.join(handler.headers[name].split())}\n" for name in names)
    payload = hashlib.sha256(body).hexdigest()
    canonical = "\n".join((handler.command, handler.path, "", headers, ";".join(names), payload))
    scope = f"{day}/{region}/{service}/aws4_request"
    text = "\n".join((scheme, handler.headers["X-Amz-Date"], scope, hashlib.sha256(canonical.encode()).hexdigest()))
    key = f"AWS4{SECRET}".encode()
    for step in (day, region, service, "aws4_request"):
        key = hmac.digest(key, step.encode(), "sha256")
    return hmac.compare_digest(hmac.digest(key, text.encode(), "sha256").hex(), parts["Signature"])


class Kms(Listening):
    """A key management service with one key. `failure`: what it answers instead."""

    def __init__(self) -> None:
        self.failure = ""
        self.seen: list[str] = []

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        return type("Handler", (_Handler,), {"service": self})

    def act(self, action: str, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if action == "DescribeKey":
            return 200, {"KeyMetadata": {"Arn": ARN, "KeyId": "one"}}
        bound = json.dumps(asked["EncryptionContext"], sort_keys=True).encode()
        pad = hashlib.sha256(b"the service's own key" + bound).digest()
        if action == "Encrypt":
            plain = base64.b64decode(asked["Plaintext"])
            mixed = bytes(a ^ b for a, b in zip(plain, pad, strict=True))
            sealed = mixed + hmac.digest(pad, mixed, "sha256")
            return 200, {"KeyId": ARN, "CiphertextBlob": base64.b64encode(sealed).decode()}
        sealed = base64.b64decode(asked["CiphertextBlob"])
        mixed, mac = sealed[:32], sealed[32:]
        if asked["KeyId"] != ARN or not hmac.compare_digest(mac, hmac.digest(pad, mixed, "sha256")):
            return 400, {"__type": "InvalidCiphertextException"}
        plain = bytes(a ^ b for a, b in zip(mixed, pad, strict=True))
        return 200, {"KeyId": ARN, "Plaintext": base64.b64encode(plain).decode()}


class _Handler(Quiet, BaseHTTPRequestHandler):
    service: Kms

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        action = self.headers["X-Amz-Target"].removeprefix("TrentService.")
        self.service.seen.append(action)
        if not signature_holds(self, body):
            return self._answer(400, {"__type": "IncompleteSignature"})
        if self.service.failure:
            return self._answer(400, {"__type": self.service.failure, "message": "no"})
        return self._answer(*self.service.act(action, json.loads(body)))

    def _answer(self, status: int, value: dict[str, Any]) -> None:
        said = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def kms() -> Iterator[Kms]:
    with Kms() as service:
        yield service


async def test_a_data_key_comes_back_for_its_own_context_alone(kms: Kms) -> None:
    source = AwsKeys("alias/percall", REGION, kms.url)
    wrapped = await source.wrap(KEY, b'["secrets","github",1,"wrapped_key"]')
    assert wrapped.key == await source.newest() == await source.rotate() == f"aws:{ARN}"
    assert await source.unwrap(wrapped, b'["secrets","github",1,"wrapped_key"]') == KEY
    for broken, context in ((wrapped, b"other"), (Wrapped(wrapped.key, b"x" * 64), b"c")):
        with pytest.raises(SealBrokenError):
            await source.unwrap(broken, context)
    assert {"Encrypt", "Decrypt", "DescribeKey"} <= set(kms.seen)
    await source.close()


async def test_a_wrong_secret_access_key_opens_nothing(kms: Kms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    source = AwsKeys("alias/percall", REGION, kms.url)
    with pytest.raises(Sealed) as caught:
        await source.newest()
    assert "IncompleteSignature" in caught.value.message
    assert "another" not in caught.value.message
    await source.close()


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        ("AccessDeniedException", Sealed),
        ("KMSInvalidStateException", Sealed),
        ("DisabledException", Sealed),
        ("NotFoundException", Unavailable),
    ],
)
async def test_what_kms_refuses_is_named(kms: Kms, failure: str, kind: type[Unavailable]) -> None:
    kms.failure = failure
    source = AwsKeys("alias/percall", REGION, kms.url)
    with pytest.raises(Unavailable) as caught:
        await source.wrap(KEY, b"c")
    assert type(caught.value) is kind
    assert failure in caught.value.message
    await source.close()


async def test_a_kms_that_is_not_there_is_one_that_may_come_back() -> None:
    source = AwsKeys("alias/percall", REGION, f"http://127.0.0.1:{free_port()}")
    with pytest.raises(Sealed):
        await source.newest()
    await source.close()
