"""Canonical JSON (RFC 8785) of a log entry, so that whoever hashes an entry gets the same bytes.

Entries hold objects, lists, strings, booleans, null and integers of at most 53 bits; never a fraction.
"""

from __future__ import annotations

from typing import Any

import msgspec

from percall_broker.model.errors import InvalidInput

_encode_sorted = msgspec.json.Encoder(order="sorted").encode
_encode = msgspec.json.Encoder().encode
_FIRST_BYTE_BEYOND_THE_BASIC_PLANE = 0xF0


def canonical(entry: dict[str, Any]) -> str:
    """The canonical text of an entry. Raises InvalidInput for a string that is no Unicode text."""
    try:
        encoded = _encode_sorted(entry)
        if not encoded.isascii() and max(encoded) >= _FIRST_BYTE_BEYOND_THE_BASIC_PLANE:
            # Sorting by code point and by UTF-16 unit, which the RFC asks for, differ only for such characters.
            encoded = _encode(_in_utf16_order(entry))
    except UnicodeEncodeError:
        raise InvalidInput("log.text", "A string of the entry holds half of a surrogate pair.") from None
    return encoded.decode()


def _in_utf16_order(value: Any) -> Any:
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-16-be"))
        return {name: _in_utf16_order(value[name]) for name in names}
    if isinstance(value, (list, tuple)):
        return [_in_utf16_order(item) for item in value]
    return value
