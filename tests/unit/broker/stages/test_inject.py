"""Where the key of a remote server goes."""

from __future__ import annotations

import pytest

from percall_broker.model.entry import Entry, Slot
from percall_broker.model.errors import Unavailable
from percall_broker.stages.inject import keyed

HEADERS = {"accept": "application/json", "authorization": "the client's own"}


def entry(*slots: Slot, url: str = "https://mcp.example/mcp") -> Entry:
    return Entry("Remote", "relay", (), slots=slots, url=url)


def test_a_header_slot_takes_the_place_of_what_the_caller_sent() -> None:
    target, headers = keyed(entry(Slot("header", "Authorization", "Bearer {key}")), b"the key", HEADERS)
    assert str(target) == "https://mcp.example/mcp"
    assert dict(headers) == {"accept": "application/json", "authorization": "Bearer the key"}


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("https://mcp.example/mcp", "https://mcp.example/mcp?api%20key=a%26b%3Dc"),
        ("https://mcp.example/mcp?v=1", "https://mcp.example/mcp?v=1&api%20key=a%26b%3Dc"),
    ],
)
def test_a_query_slot_is_added_to_the_entry_s_own_query(url: str, sent: str) -> None:
    target, headers = keyed(entry(Slot("query", "api key"), url=url), b"a&b=c", HEADERS)
    assert str(target) == sent
    assert dict(headers) == HEADERS
    assert str(keyed(entry(url=url), b"a&b=c", {})[0]) == url, "the next one begins from the entry"


@pytest.mark.parametrize("key", [b"a\r\nX: y", b" a", b"a ", b"", b"a\x7f", "schl\u00fcssel".encode()])
def test_a_key_that_cannot_stand_in_a_header_goes_nowhere(key: bytes) -> None:
    with pytest.raises(Unavailable) as refused:
        keyed(entry(Slot("header", "X-Api-Key")), key, HEADERS)
    assert refused.value.code == "credential.form"
    assert repr(key) not in str(refused.value)
