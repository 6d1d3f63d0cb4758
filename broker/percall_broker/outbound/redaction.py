"""The key, struck out of what an upstream answers: at equal length, so that lengths and framing stay as they were.

Looks for the forms in which an API may give a key back: as it is, in hex, in base64 (whatever stands before it), each
of them in any spelling (see `spellings`). A second line of defence: an upstream that splits or enciphers the key is not
caught. Much data is first searched for all forms at once; only where one is there, form by form.
"""

from __future__ import annotations

import base64

from ahocorasick_rs import BytesAhoCorasick, MatchKind

from percall_broker.outbound.spellings import Spelt

MASK = b"*"
MIN_BASE64_BYTES = 6
"""Shorter secrets are not sought in base64: their few certain characters occur in any text."""
MUCH_BYTES = 64 * 1024
"""A stream that has grown to this is searched for all forms at once: to build that search costs 0.3 ms."""


def forms(secret: bytes) -> tuple[bytes, ...]:
    """Every form of a secret that is sought, each of them in any spelling. SECRET, never log."""
    found = {secret, secret.hex().encode(), secret.hex().upper().encode()}
    if len(secret) >= MIN_BASE64_BYTES:
        found |= _base64_forms(secret)
    found.discard(b"")
    return tuple(sorted(found))


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
        self._forms = tuple(map(Spelt, forms(secret)))
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
            anchors = [form.anchor for form in self._forms]
            if all(anchors):  # of punctuation alone there is none
                # This kind of match is the one that the library finds many bytes at a time.
                self._any_form = BytesAhoCorasick(anchors, matchkind=MatchKind.LeftmostLongest)
        return self._release(data, min((form.undecided(data) for form in self._forms), default=len(data)))

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
        if self._any_form is not None and not self._any_form.find_matches_as_indexes(data):
            return []
        return [span for form in self._forms for span in form.spans(data)]


def _mask(data: bytes, spans: list[tuple[int, int]]) -> bytes:
    if not spans:
        return data
    masked = bytearray(data)
    for start, end in spans:
        stop = min(end, len(masked))
        if start < stop:
            masked[start:stop] = MASK * (stop - start)
    return bytes(masked)
