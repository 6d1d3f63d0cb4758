"""Server-sent events are cut alike, however the bytes arrive and whatever ends the lines."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from percall_broker.held import Held
from percall_broker.relay.events import EventReader, read_event

ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
TEXTS = st.text("ab: {}\"'ä", max_size=12).map(str.encode)


def read(pieces: list[bytes]) -> list[bytes]:
    with EventReader() as reader:
        found = [event for piece in pieces for event in reader.feed(piece)] + list(reader.end())
    whole = []
    for event in found:
        if isinstance(event, Held):
            with event:
                whole.append(event.whole())
        else:
            whole.append(event)
    return whole


@given(st.lists(TEXTS, min_size=1, max_size=5), ENDS, st.lists(st.integers(0, 200), max_size=6))
def test_events_are_cut_alike_wherever_the_stream_is_cut(texts: list[bytes], end: bytes, cuts: list[int]) -> None:
    stream = b"".join(b"event: x" + end + b"data: " + text + end + end for text in texts)
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    pieces = [stream[start:stop] for start, stop in pairwise(places)]
    assert [read_event(event).data for event in read(pieces)] == texts


@given(st.integers(0, 8))
def test_a_byte_order_mark_is_none_of_the_first_line_wherever_it_is_cut(cut: int) -> None:
    stream = b"\xef\xbb\xbfdata: a\n\n"
    (event,) = read([stream[:cut], stream[cut:]])
    assert read_event(event).data == b"a"


def test_what_no_reader_of_events_knows_goes_nowhere() -> None:
    event = read_event(b": said\nevent: message\nretry: 5\n\xef\xbb\xbfdata: b\nDATA: c\nnonsense\ndata: a")
    assert bytes(event) == b": said\nevent: message\nretry: 5\ndata: a\n\n"


@given(st.lists(st.tuples(TEXTS, ENDS), min_size=1, max_size=4))
def test_each_line_may_end_in_its_own_way(lines: list[tuple[bytes, bytes]]) -> None:
    body = b"".join(b"data: " + text + end for text, end in lines)
    # A carriage return and a newline that follow one another are one line's end, so the last one is spelt out.
    (event,) = read([body.rstrip(b"\r\n") + b"\n\n"])
    assert read_event(event).data == b"\n".join(text for text, _ in lines)


def test_a_long_event_is_held_on_disk_and_comes_whole() -> None:
    data = b"x" * 1024 * 1024
    pieces = [b"data: ", *(data[at : at + 65536] for at in range(0, len(data), 65536)), b"\r\n\r", b"\n"]
    (event,) = read(pieces)
    assert read_event(event).data == data
