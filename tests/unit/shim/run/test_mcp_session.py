"""What becomes of an old-era session when its server, its grant or the network lets it down at a bad moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from harness.bridged import SUSPENDED, Laptop
from percall import wire

if TYPE_CHECKING:
    from harness.bridged import Sent

OPENING = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}
CALL = {"name": "make", "arguments": {}}


@pytest.fixture
def laptop() -> Laptop:
    return Laptop()


def opens(laptop: Laptop, session: str) -> None:
    """The server answers the `initialize` that is under way."""
    answers(laptop.sent("initialize"), {"protocolVersion": "2025-11-25"}, mcp_session_id=session)


def begin(laptop: Laptop, session: str = "one") -> None:
    laptop.says("initialize", OPENING, id=f"open {session}")
    opens(laptop, session)
    laptop.says("notifications/initialized")
    laptop.sent("notifications/initialized").status(202)


def opens_again(laptop: Laptop, session: str) -> None:
    """The session is opened again for a request that waits for it."""
    opens(laptop, session)
    confirmation = laptop.sent("notifications/initialized")
    assert confirmation.session == session
    confirmation.status(202)


def answers(sent: Sent, result: dict[str, Any], **headers: str) -> None:
    sent.answer({"jsonrpc": "2.0", "id": sent.message["id"], "result": result}, **headers)


def forgotten(sent: Sent) -> None:
    sent.status(404, "session.ended")


def told(laptop: Laptop, request: str) -> str:
    (answer,) = [frame for frame in laptop.client.frames() if frame.get("id") == request]
    return str(answer)


def streams(laptop: Laptop) -> list[str]:
    return [sent.session for sent in laptop.broker.under_way if sent.method == "GET"]


def test_a_call_that_was_approved_goes_into_the_session_that_is_open_by_then(laptop: Laptop) -> None:
    begin(laptop)
    laptop.says("tools/call", CALL, id="call")
    asked = wire.dump(wire.encode(wire.Asked("a1", 2**40, ("managers",), "https://b.example/a"))).decode()
    answers(laptop.sent("tools/call"), {"content": [], "isError": True}, percall_approval=asked)
    laptop.says("tools/list", id="list")
    forgotten(laptop.sent("tools/list"))
    opens_again(laptop, "two")
    laptop.approvals.answered(["a1"])
    assert laptop.sent("tools/call").session == "two"


def test_a_call_that_is_approved_before_the_client_confirms_another_session_waits_for_that(laptop: Laptop) -> None:
    begin(laptop)
    laptop.says("tools/call", CALL, id="call")
    asked = wire.dump(wire.encode(wire.Asked("a1", 2**40, ("managers",), "https://b.example/a"))).decode()
    answers(laptop.sent("tools/call"), {"content": [], "isError": True}, percall_approval=asked)
    laptop.says("initialize", OPENING, id="open again")
    opens(laptop, "two")
    laptop.approvals.answered(["a1"])
    assert not [sent for sent in laptop.broker.under_way if sent.message.get("method") == "tools/call"]
    laptop.says("notifications/initialized")
    laptop.sent("notifications/initialized").status(202)
    assert laptop.sent("tools/call").session == "two"


def test_a_late_word_of_the_old_sessions_end_does_not_end_the_new_one(laptop: Laptop) -> None:
    begin(laptop)
    laptop.says("tools/list", id="first")
    first = laptop.sent("tools/list")
    laptop.says("prompts/list", id="second")
    second = laptop.sent("prompts/list")
    forgotten(first)
    opens_again(laptop, "two")
    forgotten(second)
    assert laptop.sent("prompts/list").session == "two"
    answers(laptop.sent("prompts/list"), {"prompts": []})
    assert "prompts" in told(laptop, "second")


@pytest.mark.parametrize("method", ["tools/call", "resources/read"])
def test_a_call_whose_answer_broke_off_in_a_session_that_is_gone_is_unknown(laptop: Laptop, method: str) -> None:
    begin(laptop)
    laptop.says(method, CALL, id="call")
    call = laptop.sent(method)
    call.event(None, "place")
    call.end()
    laptop.loop.passes()
    (rest,) = [sent for sent in laptop.broker.under_way if sent.headers.get("last-event-id") == "place"]
    forgotten(rest)
    assert "Whether the server did anything is unknown" in told(laptop, "call")
    assert not [sent for sent in laptop.broker.under_way if sent.message.get("method") == method]


def test_a_session_that_a_suspension_kept_from_opening_is_opened_after_it(laptop: Laptop) -> None:
    laptop.says("initialize", OPENING, id="open")
    laptop.bridge.refuse_all(SUSPENDED)
    assert "serverInfo" in told(laptop, "open")
    laptop.bridge.resume()
    laptop.says("tools/call", CALL, id="call")
    opens_again(laptop, "one")
    assert laptop.sent("tools/call").session == "one"
    assert "notifications/tools/list_changed" in str(laptop.client.written)


def test_a_session_that_a_suspension_kept_from_being_confirmed_is_opened_anew_after_it(laptop: Laptop) -> None:
    laptop.says("initialize", OPENING, id="open")
    opens(laptop, "one")
    laptop.bridge.refuse_all(SUSPENDED)
    laptop.says("notifications/initialized")
    laptop.bridge.resume()
    laptop.says("tools/call", CALL, id="call")
    opens_again(laptop, "two")
    assert laptop.sent("tools/call").session == "two"


def test_a_confirmation_that_was_cut_off_opens_the_session_anew(laptop: Laptop) -> None:
    laptop.says("initialize", OPENING, id="open")
    opens(laptop, "one")
    laptop.says("notifications/initialized")
    laptop.says("tools/call", CALL, id="call")
    laptop.sent("notifications/initialized").cut()
    opens_again(laptop, "two")
    assert laptop.sent("tools/call").session == "two"


def test_a_confirmation_that_the_server_dislikes_leaves_the_session_open(laptop: Laptop) -> None:
    laptop.says("initialize", OPENING, id="open")
    opens(laptop, "one")
    laptop.says("notifications/initialized")
    laptop.sent("notifications/initialized").status(502, "upstream.status")
    laptop.says("tools/call", CALL, id="call")
    assert laptop.sent("tools/call").session == "one"


def test_a_request_that_finds_the_session_gone_while_it_is_being_confirmed_is_answered(laptop: Laptop) -> None:
    laptop.says("initialize", OPENING, id="open")
    opens(laptop, "one")
    laptop.says("tools/list", id="list")
    laptop.says("notifications/initialized")
    forgotten(laptop.sent("tools/list"))
    opens_again(laptop, "two")
    answers(laptop.sent("tools/list"), {"tools": []})
    assert "tools" in told(laptop, "list")


def test_a_client_that_opens_another_session_leaves_the_first_ones_stream(laptop: Laptop) -> None:
    begin(laptop, "one")
    assert streams(laptop) == ["one"]
    begin(laptop, "two")
    assert streams(laptop) == ["two"]


def test_a_server_that_says_not_found_where_others_have_a_stream_keeps_its_session(laptop: Laptop) -> None:
    begin(laptop)
    forgotten(laptop.sent("GET"))
    laptop.says("tools/call", CALL, id="call")
    assert laptop.sent("tools/call").session == "one"


def test_a_stream_that_was_open_tells_of_the_sessions_end(laptop: Laptop) -> None:
    begin(laptop)
    laptop.sent("GET").event(None, "place")
    laptop.sent("GET").end()
    laptop.loop.passes()
    forgotten(laptop.sent("GET"))
    laptop.says("tools/call", CALL, id="call")
    opens_again(laptop, "two")
    assert laptop.sent("tools/call").session == "two"


def test_a_call_that_a_suspension_overtakes_is_unknown_and_one_that_has_not_gone_is_refused(laptop: Laptop) -> None:
    begin(laptop)
    laptop.says("tools/call", CALL, id="gone")
    laptop.sent("tools/call")
    laptop.bridge.refuse_all(SUSPENDED)
    laptop.says("tools/call", CALL, id="late")
    assert "Whether the server did anything is unknown" in told(laptop, "gone")
    assert "unknown" not in told(laptop, "late")
    assert all("[grant.suspended]" in told(laptop, request) for request in ("gone", "late"))
