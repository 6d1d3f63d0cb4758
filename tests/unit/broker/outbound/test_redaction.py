"""Each form in which an API may give the key back is struck out; the forms stand here apart from our own code."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest

from percall_broker.outbound.redaction import MUCH_BYTES, Redactor

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = b"p/q+r \"s'&<t>"
NOT_ASCII = "schl\u00fcssel".encode()


@pytest.mark.parametrize(
    ("key", "form"),
    [
        (KEY, KEY),
        (KEY, b"p%2Fq%2Br%20%22s%27%26%3Ct%3E"),
        (KEY, b"p%2fq%2br%20%22s%27%26%3ct%3e"),
        (KEY, b"p/q%2Br%20%22s%27%26%3Ct%3E"),
        (KEY, b"p/q%2br%20%22s%27%26%3ct%3e"),
        (KEY, b"p%2Fq%2Br+%22s%27%26%3Ct%3E"),
        (KEY, b"p%2fq%2br+%22s%27%26%3ct%3e"),
        (KEY, b"p/q+r \\\"s'&<t>"),
        (KEY, b"p\\/q+r \\\"s'&<t>"),
        (KEY, b'p/q\\u002br \\"s\\u0027\\u0026\\u003ct\\u003e'),
        (KEY, b"p/q\\u002Br \\u0022s\\u0027\\u0026\\u003Ct\\u003E"),  # .NET's System.Text.Json
        (KEY, b"p/q+r \\\"s'\\u0026\\u003ct\\u003e"),  # Go's encoding/json
        (KEY, b"p%2Fq%2Br%20%22s'%26%3Ct%3E"),  # JavaScript's encodeURIComponent
        (KEY, b"p/q+r%20%22s%27&%3Ct%3E"),  # Go's url.PathEscape
        (KEY, b"p/q+r &quot;s&#39;&amp;&lt;t&gt;"),  # HTML, as Python and Go
        (KEY, b"p/q+r &quot;s&#039;&amp;&lt;t&gt;"),  # and as PHP
        (KEY, b"p&#x2F;q&#x2b;r &#34;s&apos;&amp;&lt;t&gt;"),
        (KEY, b"p\\/q+r \\\\\\\"s'&<t>"),  # JSON in a JSON string, as tools answer it
        (KEY, b"p%252Fq%252Br%2520%2522s%2527%2526%253Ct%253E"),  # a URL in a URL's query
        (b"a~b", b"a%7Eb"),  # Java's URLEncoder
        (b"a~b", b"a~b"),
        (b"line\nline", b"line\\nline"),
        (b"a\xffb", b"a%ffb"),
        ("a\U0001f511b".encode(), b"a\\uD83D\\uDD11b"),
        (b"??>>>>", b"Pz8%2BPj4%2B"),
        (b"??>>>>", b"Pz8\\u002BPj4\\u002b"),
        (KEY, b"702f712b7220227327263c743e"),
        (KEY, b"702F712B7220227327263C743E"),
        (NOT_ASCII, b"schl\\u00fcssel"),
        (NOT_ASCII, b"schl%C3%BCssel"),
        ('\u00fc"'.encode(), '\u00fc\\"'.encode()),
        (b"aba", b"aba"),
    ],
)
def test_a_form_of_the_key_is_struck_out_at_its_length(key: bytes, form: bytes) -> None:
    answer = b'{"a":"' + form + b'"}'
    struck = b'{"a":"' + b"*" * len(form) + b'"}'
    assert Redactor(key).redact(answer) == struck
    redactor = Redactor(key)
    assert b"".join([*(redactor.feed(bytes([byte])) for byte in answer), redactor.flush()]) == struck
    much = Redactor(key)
    assert much.feed(b"." * MUCH_BYTES) == b"." * MUCH_BYTES
    assert much.feed(answer) + much.flush() == struck


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("before", [b"", b"u", b"u:", b"u:p"])
@pytest.mark.parametrize("key", [b"???>>>~~~~", b"12345678", b">>>>>>>>", b"6bytes"])
def test_the_key_within_base64_is_struck_out_wherever_it_begins(
    encode: Callable[[bytes], bytes], before: bytes, key: bytes
) -> None:
    text = encode(before + key)
    first, last = -(-len(before) * 8 // 6), (len(before) + len(key)) * 8 // 6
    assert Redactor(key).redact(text) == text[:first] + b"*" * (last - first) + text[last:]


@pytest.mark.parametrize(
    ("key", "answer", "struck"),
    [
        (b"aa", b"xaaax", b"x***x"),
        (b"aba", b"abab", b"***b"),
        (b"aba", b"ababa", b"*****"),
        (b"ab", b"aabaab", b"a**a**"),
    ],
)
def test_a_key_that_begins_within_itself_leaves_no_rest_however_it_comes(
    key: bytes, answer: bytes, struck: bytes
) -> None:
    assert Redactor(key).redact(answer) == struck
    for size in range(1, len(answer) + 1):
        redactor = Redactor(key)
        pieces = [redactor.feed(answer[at : at + size]) for at in range(0, len(answer), size)]
        assert b"".join([*pieces, redactor.flush()]) == struck
