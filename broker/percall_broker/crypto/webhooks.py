"""The signature of Standard Webhooks (https://www.standardwebhooks.com): HMAC-SHA256 over id, time and body."""

from __future__ import annotations

from base64 import b64decode, b64encode

from percall_broker.crypto.sodium import mac, new_key

_PREFIX = "whsec_"


def new_secret() -> str:
    """A signing key, in the form that receivers' libraries read."""
    return _PREFIX + b64encode(new_key()).decode()


def headers(secret: str, identifier: str, now: float, body: bytes) -> list[tuple[bytes, bytes]]:
    """What goes with a body: id, time and signature."""
    timestamp = str(int(now))
    signed = f"{identifier}.{timestamp}.".encode() + body
    signature = mac(b64decode(secret.removeprefix(_PREFIX)), signed)
    return [
        (b"webhook-id", identifier.encode()),
        (b"webhook-timestamp", timestamp.encode()),
        (b"webhook-signature", b"v1," + b64encode(signature)),
    ]
