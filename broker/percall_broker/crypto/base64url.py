"""Base64url without padding, in its one canonical form: two texts never mean the same bytes."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode


def encode(data: bytes) -> str:
    """The text of some bytes."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """The bytes of a text. Raises ValueError for padding, other alphabets, and any other form that is not canonical."""
    data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    # The standard decoder skips what it does not know; only what encodes back to the same text was canonical.
    if encode(data) != text:
        raise ValueError("Not canonical base64url.")
    return data
