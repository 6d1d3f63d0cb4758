"""Server-sent events as the shim reads them: any borders, and no number that a server can do harm with."""

from __future__ import annotations

import pytest

from percall.errors import WireError
from percall.run.sse import EventParser


def events(stream: bytes, size: int = 1000) -> list[tuple[str, bytes | None, str | None, float | None]]:
    parser = EventParser(100)
    found = [event for at in range(0, len(stream), size) for event in parser.feed(stream[at : at + size])]
    return [(event.kind, event.data, event.id, event.retry) for event in found]


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_events_are_cut_alike_wherever_the_stream_is_cut(size: int, end: bytes) -> None:
    stream = end.join((b": hello", b"", b"id: 7", b"", b"event: told", b"data: a", b"data:b", b"", b"retry: 1500", b""))
    assert events(stream + end, size) == [
        ("message", None, "7", None),
        ("told", b"a\nb", None, None),
        ("message", None, None, 1.5),
    ]


def test_an_event_that_is_not_over_is_none_yet() -> None:
    assert events(b"data: a\n") == []


@pytest.mark.parametrize("identifier", [b"a\0b", b"a\rb", "\u20ac".encode(), b"\xff"])
def test_an_id_that_no_header_could_give_back_is_none(identifier: bytes) -> None:
    assert events(b"id: " + identifier + b"\ndata: c\n\n") == [("message", b"c", None, None)]


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (b"0", 1.0),
        (b"999", 1.0),
        (b"1250", 1.25),
        (b"3600001", 3600.0),
        (b"9" * 18, 3600.0),
        (b"9" * 19, None),
        (b"9" * 5000, None),
        (b"-5", None),
        (b"1.5", None),
        ("²".encode(), None),
        (b"", None),
    ],
)
def test_a_server_neither_has_the_shim_spin_nor_sleep_for_years(said: bytes, seconds: float | None) -> None:
    parser = EventParser(10_000)
    (event,) = parser.feed(b"retry: " + said + b"\ndata: a\n\n")
    assert event.retry == seconds


@pytest.mark.parametrize("stream", [b"data: " + b"x" * 101 + b"\n", b"data: x" * 20, b"data: " + b"x\ndata: " * 101])
def test_an_event_that_is_too_long_is_refused(stream: bytes) -> None:
    with pytest.raises(WireError):
        events(stream)
