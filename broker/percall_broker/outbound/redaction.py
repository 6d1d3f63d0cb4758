"""The key, struck out of what an upstream answers: at equal length, so that lengths and framing stay as they were.

Looks for the forms in which an API may give a key back: as it is, URL-encoded, in base64 (whatever stands before it),
in hex and escaped in JSON. A second line of defence: an upstream that splits or enciphers the key is not caught.
Much data is first searched for all forms at once; only where one is there, form by form.
"""

from __future__ import annotations

import base64
import json
import re
from urllib.parse import quote, quote_plus

from ahocorasick_rs import BytesAhoCorasick, MatchKind

MASK = b"*"
MIN_BASE64_BYTES = 6
"""Shorter secrets are not sought in base64: their few certain characters occur in any text."""
_UNRESERVED = re.compile(rb"[A-Za-z0-9._~-]+")
"""RFC 3986, section 2.3."""
MUCH_BYTES = 64 * 1024
"""A stream that has grown to this is searched for all forms at once: to build that search costs 0.3 ms."""


def forms(secret: bytes) -> tuple[bytes, ...]:
    """Every form of a secret that is struck out, the longest first. SECRET, never log."""
    found = {secret, secret.hex().encode(), secret.hex().upper().encode()}
    if not _UNRESERVED.fullmatch(secret):  # most keys are of characters that neither URLs nor JSON escape
        found |= _url_forms(secret)
        found |= _json_forms(secret)
    if len(secret) >= MIN_BASE64_BYTES:
        found |= _base64_forms(secret)
    found.discard(b"")
    return tuple(sorted(found, key=lambda form: (-len(form), form)))


def _url_forms(secret: bytes) -> set[bytes]:
    upper = {quote(secret, safe="").encode(), quote(secret, safe="/").encode(), quote_plus(secret).encode()}
    return upper | {_lower_escapes(form) for form in upper}


def _lower_escapes(text: bytes) -> bytes:
    head, *rest = text.split(b"%")
    return b"%".join([head, *(part[:2].lower() + part[2:] for part in rest)])


def _json_forms(secret: bytes) -> set[bytes]:
    try:
        text = secret.decode()
    except UnicodeDecodeError:
        return set()
    found = set()
    for ascii_only in (True, False):
        escaped = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        for form in (escaped, escaped.replace("/", "\\/"), _html_safe(escaped)):
            found.add(form.encode())
    return found


def _html_safe(escaped: str) -> str:
    """As Go, .NET and PHP escape by default."""
    for character in "<>&+'":
        escaped = escaped.replace(character, f"\\u{ord(character):04x}")
    return escaped


def _base64_forms(secret: bytes) -> set[bytes]:
    """The characters that the secret alone determines, at each of the three places it can have in a group of bytes."""
    found = set()
    for before in range(3):
        text = base64.b64encode(bytes(before) + secret)
        certain = text[-(-before * 8 // 6) : (before + len(secret)) * 8 // 6]
        found |= {certain, certain.replace(b"+", b"-").replace(b"/", b"_")}
    return found


class Redactor:
    """Strikes one secret out of a stream of chunks. SECRET, never log.

    Every byte that any form of the secret covers becomes `*`. A chunk's end is held back only as far as a form may
    have begun in it, so that a stream of events is not delayed; `flush` gives what was held.
    """

    __slots__ = ("_any_form", "_forms", "_held", "_masked", "_seen")

    def __init__(self, secret: bytes) -> None:
        self._forms = forms(secret)
        self._held = b""
        self._any_form: BytesAhoCorasick | None = None
        self._seen = 0
        self._masked = 0  # so many of the held bytes belong to a form that was seen whole

    def __repr__(self) -> str:
        """Nothing of the secret."""
        return "Redactor()"

    def feed(self, chunk: bytes) -> bytes:
        """What can be said of the stream so far."""
        data = self._held + chunk if self._held else chunk
        self._seen += len(chunk)
        if self._any_form is None and self._seen >= MUCH_BYTES:
            # This kind of match is the one that the library finds many bytes at a time.
            self._any_form = BytesAhoCorasick(self._forms, matchkind=MatchKind.LeftmostLongest)
        return self._release(data, self._undecided(data))

    def flush(self) -> bytes:
        """The rest, at the stream's end."""
        return self._release(self._held, len(self._held))

    def redact(self, data: bytes) -> bytes:
        """One whole value, apart from the stream."""
        return _mask(data, self._spans(data))

    def text(self, value: str) -> str:
        """One header's value, apart from the stream."""
        return self.redact(value.encode("latin-1")).decode("latin-1")

    def _release(self, data: bytes, until: int) -> bytes:
        spans = self._spans(data)
        carried = self._masked
        if carried:
            spans.append((0, carried))
        self._held = data[until:]
        # A form that begins behind `until` will be found again; of one that begins before it, the rest is carried on.
        self._masked = max(
            (end - until for start, end in spans if start < until < end), default=max(0, carried - until)
        )
        return _mask(data if until == len(data) else data[:until], spans)

    def _spans(self, data: bytes) -> list[tuple[int, int]]:
        spans: list[tuple[int, int]] = []
        if self._any_form is not None and not self._any_form.find_matches_as_indexes(data):
            return spans
        for form in self._forms:
            at = data.find(form)
            while at >= 0:
                spans.append((at, at + len(form)))
                at = data.find(form, at + 1)
        return spans

    def _undecided(self, data: bytes) -> int:
        """Where the longest ending that may yet become a form begins."""
        earliest = len(data)
        for form in self._forms:
            at = data.find(form[:1], max(0, len(data) - len(form) + 1))
            while 0 <= at < earliest:
                if form.startswith(data[at:]):
                    earliest = at
                at = data.find(form[:1], at + 1)
        return earliest


def _mask(data: bytes, spans: list[tuple[int, int]]) -> bytes:
    if not spans:
        return data
    masked = bytearray(data)
    for start, end in spans:
        stop = min(end, len(masked))
        if start < stop:
            masked[start:stop] = MASK * (stop - start)
    return bytes(masked)
