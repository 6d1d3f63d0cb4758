"""The redactor equals a naive replacement, however the stream was cut; the key is in no output."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import string
from itertools import pairwise
from urllib.parse import quote

from hypothesis import given, settings
from hypothesis import strategies as st

from percall_broker.outbound import spellings
from percall_broker.outbound.redaction import MUCH_BYTES, Redactor, forms

# Few letters, so that forms overlap, begin again and nearly end, all the time.
small = st.lists(st.sampled_from([b"a", b"b", b"/", b"+"]), min_size=1, max_size=7).map(b"".join)
keys = st.one_of(small, st.binary(min_size=1, max_size=60), st.text(min_size=1, max_size=40).map(str.encode))


def spelt(form: bytes) -> list[list[bytes]]:
    """Each character's spellings, the longest first."""
    text = form.decode("utf-8", "surrogateescape")
    plain = {*string.ascii_letters, *string.digits}
    return [[one.encode()] if one in plain else sorted(spellings.of(one), key=len, reverse=True) for one in text]


def naive(secret: bytes, data: bytes) -> bytes:
    """By a regular expression for each form, tried at every place."""
    masked = bytearray(data)
    for form in forms(secret):
        pattern = re.compile(b"".join(b"(?:%s)" % b"|".join(map(re.escape, part)) for part in spelt(form)))
        for at in range(len(data)):
            if found := pattern.match(data, at):
                masked[at : found.end()] = b"*" * (found.end() - at)
    return bytes(masked)


@st.composite
def spellings_of(draw: st.DrawFn, secret: bytes) -> bytes:
    """One of its forms, each character spelt in whatever way."""
    parts = spelt(draw(st.sampled_from(forms(secret))))
    return b"".join(draw(st.sampled_from(part)) for part in parts)


def streamed(secret: bytes, data: bytes, cuts: list[int], before: bytes = b"") -> bytes:
    redactor = Redactor(secret)
    assert redactor.feed(before) == before
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    parts = [redactor.feed(data[start:end]) for start, end in pairwise(edges)]
    return b"".join([*parts, redactor.flush()])


def reflections(secret: bytes) -> list[bytes]:
    found = [
        secret,
        quote(secret, safe="").encode(),
        base64.b64encode(b"user:" + secret + b"!"),
        base64.urlsafe_b64encode(b"x" + secret),
        secret.hex().encode(),
        secret.hex().upper().encode(),
    ]
    with contextlib.suppress(UnicodeDecodeError):
        found.append(json.dumps(secret.decode()).encode())
    return found


@settings(max_examples=400, deadline=None)
@given(secret=keys, data=st.data())
def test_any_chunking_gives_what_a_naive_replacement_gives(secret: bytes, data: st.DataObject) -> None:
    pieces = st.one_of(small, st.binary(max_size=12), spellings_of(secret), st.sampled_from([secret[:-1], secret[1:]]))
    text = b"".join(data.draw(st.lists(pieces, max_size=12)))
    cuts = data.draw(st.lists(st.integers(0, 10_000), max_size=20))
    assert streamed(secret, text, cuts) == naive(secret, text)


@settings(max_examples=200, deadline=None)
@given(secret=keys, data=st.data())
def test_so_does_a_stream_that_was_long_before(secret: bytes, data: st.DataObject) -> None:
    used = {byte for form in forms(secret) for part in spelt(form) for one in part for byte in one}
    unlike = next(bytes([byte]) for byte in range(256) if byte not in used)
    pieces = st.one_of(small, st.binary(max_size=12), spellings_of(secret), st.sampled_from([secret[:-1], secret[1:]]))
    text = b"".join(data.draw(st.lists(pieces, max_size=12)))
    cuts = data.draw(st.lists(st.integers(0, 10_000), max_size=20))
    assert streamed(secret, text, cuts, before=unlike * MUCH_BYTES) == naive(secret, text)


@settings(max_examples=200, deadline=None)
@given(secret=st.binary(min_size=8, max_size=60), data=st.data())
def test_the_key_is_in_no_output_and_the_length_stays(secret: bytes, data: st.DataObject) -> None:
    pieces = st.one_of(st.binary(max_size=20), st.sampled_from(reflections(secret)))
    text = b"".join(data.draw(st.lists(pieces, max_size=10)))
    cuts = data.draw(st.lists(st.integers(0, 10_000), max_size=20))
    answer = streamed(secret, text, cuts)
    assert len(answer) == len(text)
    if secret != b"*" * len(secret):
        assert not [form for form in forms(secret) if form.strip(b"*") == form and form in answer]


@settings(max_examples=200, deadline=None)
@given(secret=st.binary(min_size=9, max_size=40), before=st.binary(max_size=5), after=st.binary(max_size=5))
def test_base64_of_any_alignment_keeps_no_whole_byte_of_the_key(secret: bytes, before: bytes, after: bytes) -> None:
    text = base64.b64encode(before + secret + after)
    answer = Redactor(secret).redact(text)
    certain = -(-len(before) * 8 // 6), (len(before) + len(secret)) * 8 // 6
    assert set(answer[certain[0] : certain[1]]) == {ord("*")}
