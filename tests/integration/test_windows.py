"""API requests in the windows of calls: once opened, bounded, for the open call's own tool, until the answer."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from harness.processes import keyed_entry, wait_for
from harness.signing import SigningLaptop, egress_message
from harness.upstream import CANARY
from integration.replicas import replicas
from percall import wire
from percall_broker.api.events import MOST_STREAMS

if TYPE_CHECKING:
    from harness.upstream import Upstream
    from integration.conftest import Served


def opened(laptop: SigningLaptop, tool: str = "get_item", server: str = "keyed") -> wire.Window:
    answer = laptop.call(server, tool)
    assert answer["decision"] == "permit", answer
    return wire.Window(answer["call"], answer["credential"])


def test_a_request_in_a_window_carries_the_key_and_the_answer_does_not(served: Served, upstream: Upstream) -> None:
    laptop, _ = served.enrol()
    window = opened(laptop)
    answer = laptop.request("keyed", f"{upstream.url}/items/901", window)
    head, body = wire.split(answer.body)
    assert (answer.status, head["status"]) == (200, 200)
    assert "GET /items/901" in upstream.with_real_key()
    assert CANARY.encode() not in answer.body
    assert body
    assert answer.headers["cache-control"] == "no-store"
    again = laptop.request("keyed", f"{upstream.url}/items/902", wire.Window(window.call))
    assert again.status == 200


def test_the_record_says_which_request_went_without_the_key(served: Served, upstream: Upstream) -> None:
    laptop, _ = served.enrol()
    window = opened(laptop)
    assert laptop.request("keyed", f"{upstream.url}/items/903", window).status == 200
    headers = (("x-token", "test_placeholder"),)
    elsewhere = egress_message("keyed", f"{upstream.url}/items/904", wire.Window(window.call), headers=headers)
    answer = laptop.send("POST", wire.PATH_EGRESS, elsewhere)
    assert wire.split(answer.body)[0]["status"] == 401
    story = served.administrator.administer("GET", f"/v1/admin/calls/{window.call}")
    requests = [entry for entry in story["entries"] if entry["kind"] == "request"]
    assert [entry.get("keyed", True) for entry in requests] == [True, False]


def test_the_record_keeps_no_query(served: Served, upstream: Upstream) -> None:
    laptop, _ = served.enrol()
    window = opened(laptop)
    url = f"{upstream.url}/items/907"
    for method, opens in (("GET", window), ("DELETE", wire.Window(window.call))):
        laptop.request("keyed", f"{url}?for=somebody", opens, method=method)
    story = served.administrator.administer("GET", f"/v1/admin/calls/{window.call}")
    requests = [(entry["url"], entry["decision"]) for entry in story["entries"] if entry["kind"] == "request"]
    assert requests == [(url, "permit"), (url, "forbid")]
    assert not served.recorded("SELECT entry FROM log WHERE entry LIKE '%somebody%'")


def test_a_call_whose_requests_went_without_the_key_is_no_use_of_it(served: Served, upstream: Upstream) -> None:
    laptop, grant = served.enrol()
    with_key, without = opened(laptop), opened(laptop)
    assert laptop.request("keyed", f"{upstream.url}/items/905", with_key).status == 200
    headers = (("x-token", "test_placeholder"),)
    elsewhere = egress_message("keyed", f"{upstream.url}/items/906", without, headers=headers)
    assert laptop.send("POST", wire.PATH_EGRESS, elsewhere).status == 200
    version = served.administrator.administer("GET", "/v1/admin/servers/keyed")["secret_version"]
    path = f"/v1/admin/calls?server=keyed&secret_version={version}&grant={grant}"
    assert [row["call"] for row in served.administrator.administer("GET", path)] == [with_key.call]


def test_a_credential_works_once_of_two_hundred(served: Served, upstream: Upstream) -> None:
    laptop, _ = served.enrol()
    window = opened(laptop)
    message = egress_message("keyed", f"{upstream.url}/items/{window.call}", window)
    start = threading.Barrier(32)
    signed = [laptop.headers("POST", wire.PATH_EGRESS, message) for _ in range(200)]

    def attempt(index: int) -> tuple[int, str]:
        if index < 32:
            start.wait(30)
        answer = laptop.exchange("POST", wire.PATH_EGRESS, message, signed[index])
        return answer.status, "" if answer.status == 200 else answer.code

    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(attempt, range(200)))
    assert answers.count((200, "")) == 1
    assert answers.count((403, "credential.used")) == 199
    assert upstream.with_real_key().count(f"GET /items/{window.call}") == 1


def test_a_window_closes_with_the_calls_answer(served: Served, upstream: Upstream) -> None:
    laptop, _ = served.enrol()
    window = opened(laptop)
    assert laptop.request("keyed", f"{upstream.url}/items/1", window).status == 200
    assert laptop.settle(window.call).status == 204
    answer = laptop.request("keyed", f"{upstream.url}/items/after", wire.Window(window.call))
    assert (answer.status, answer.code) == (403, "window.closed")
    assert "GET /items/after" not in upstream.with_real_key()


def test_a_credential_is_worth_nothing_after_the_call_was_settled(served: Served, upstream: Upstream) -> None:
    laptop, _ = served.enrol()
    window = opened(laptop)
    laptop.settle(window.call)
    assert laptop.request("keyed", f"{upstream.url}/items/1", window).code == "window.closed"


def test_a_window_that_no_credential_opened_is_shut(served: Served, upstream: Upstream) -> None:
    laptop, _ = served.enrol()
    window = opened(laptop)
    answer = laptop.request("keyed", f"{upstream.url}/items/1", wire.Window(window.call))
    assert (answer.status, answer.code) == (403, "window.unopened")


def test_a_read_call_only_reads(served: Served, upstream: Upstream) -> None:
    laptop, _ = served.enrol()
    window = opened(laptop)
    answer = laptop.request("keyed", f"{upstream.url}/items/5", window, method="DELETE")
    assert (answer.status, answer.code) == (403, "request.rule")
    assert not [seen for seen in upstream.seen if seen.method == "DELETE"]


def test_a_request_outside_any_window_is_refused(served: Served, upstream: Upstream) -> None:
    laptop, _ = served.enrol()
    assert laptop.request("keyed", f"{upstream.url}/items/5").code == "request.no_call"


def test_a_call_that_there_never_was_opens_nothing(served: Served, upstream: Upstream) -> None:
    laptop, _ = served.enrol()
    answer = laptop.request("keyed", f"{upstream.url}/items/5", wire.Window("A" * 22))
    assert (answer.status, answer.code) == (403, "window.unknown")


def test_a_server_without_a_key_makes_no_request_through_the_broker(served: Served, upstream: Upstream) -> None:
    served.add_server("keyless", '[server]\ntitle = "Clock"\ndelivery = "none"\ncommand = ["clock"]\n')
    laptop, _ = served.enrol("keyless")
    call = laptop.call("keyless", "get_time")["call"]
    answer = laptop.request("keyless", f"{upstream.url}/items/keyless", wire.Window(call))
    assert (answer.status, answer.code) == (403, "server.no_key")
    assert "GET /items/keyless" not in upstream.with_real_key()


def test_another_grants_call_and_credential_open_nothing(served: Served, upstream: Upstream) -> None:
    laptop, _ = served.enrol()
    thief, _ = served.enrol()
    window = opened(laptop)
    assert thief.request("keyed", f"{upstream.url}/items/5", window).code == "window.unknown"
    mine = opened(thief)
    crossed = wire.Window(mine.call, window.credential)
    assert thief.request("keyed", f"{upstream.url}/items/5", crossed).code == "credential.binding"


def test_the_next_request_of_an_open_window_is_refused_after_a_revocation(served: Served, upstream: Upstream) -> None:
    laptop, grant = served.enrol()
    window = opened(laptop)
    assert laptop.request("keyed", f"{upstream.url}/items/1", window).status == 200
    served.change(grant, "revoke")
    answer = laptop.request("keyed", f"{upstream.url}/items/revoked", wire.Window(window.call))
    assert (answer.status, answer.code) == (403, "grant.revoked")
    assert "GET /items/revoked" not in upstream.with_real_key()


@pytest.mark.parametrize("door", ["calls", "requests"])
def test_what_the_broker_remembers_neither_refuses_nor_permits(served: Served, upstream: Upstream, door: str) -> None:
    """Another replica has changed the grant, and this one has not heard of it yet."""
    laptop, grant = served.enrol()
    window = opened(laptop)

    def code() -> str:
        if door == "calls":
            call = laptop.call("keyed", "get_item")
            return str(call["refusal"]["code"]) if call["decision"] == "forbid" else "permit"
        came = laptop.request("keyed", f"{upstream.url}/items/1", window)
        return "permit" if came.status == 200 else came.code

    served.change(grant, "suspend")
    assert code() == "grant.suspended"
    for state, told in (("active", "permit"), ("suspended", "grant.suspended")):
        served.unheard(f"UPDATE grants SET state = '{state}', version = version + 1 WHERE id = '{grant}'")  # noqa: S608 - ours
        assert code() == told
        window = wire.Window(window.call)


def test_a_captured_api_request_is_not_made_twice(served: Served, upstream: Upstream) -> None:
    laptop, _ = served.enrol()
    window = opened(laptop)
    laptop.request("keyed", f"{upstream.url}/items/1", window)
    message = egress_message("keyed", f"{upstream.url}/items/{window.call}", wire.Window(window.call))
    headers = laptop.headers("POST", wire.PATH_EGRESS, message)
    assert laptop.exchange("POST", wire.PATH_EGRESS, message, headers).status == 200
    assert laptop.exchange("POST", wire.PATH_EGRESS, message, headers).code == "proof.replayed"
    assert upstream.with_real_key().count(f"GET /items/{window.call}") == 1


def test_a_call_makes_as_many_requests_as_its_entry_allows(served: Served, upstream: Upstream) -> None:
    entry = keyed_entry(upstream.url).replace("[server]", "[server]\nmax_requests = 2")
    served.add_server("bounded", entry, CANARY)
    laptop, _ = served.enrol("bounded")
    window = opened(laptop, server="bounded")
    assert laptop.request("bounded", f"{upstream.url}/items/1", window).status == 200
    assert laptop.request("bounded", f"{upstream.url}/items/2", wire.Window(window.call)).status == 200
    assert laptop.request("bounded", f"{upstream.url}/items/3", wire.Window(window.call)).code == "request.limit"


def test_a_window_shuts_at_its_deadline(served: Served, upstream: Upstream) -> None:
    entry = keyed_entry(upstream.url).replace("[server]", "[server]\ndeadline_seconds = 1")
    served.add_server("hasty", entry, CANARY)
    laptop, _ = served.enrol("hasty")
    window = opened(laptop, server="hasty")
    assert laptop.request("hasty", f"{upstream.url}/items/1", window).status == 200

    def shut() -> bool:
        answer = laptop.request("hasty", f"{upstream.url}/items/1", wire.Window(window.call))
        return answer.status == 403 and answer.code == "window.deadline"

    wait_for(shut, "the window is shut")


def test_with_attribution_exact_a_request_belongs_to_one_call(served: Served, upstream: Upstream) -> None:
    laptop, _ = served.enrol()
    windows = opened(laptop), opened(laptop)
    assert laptop.request("keyed", f"{upstream.url}/items/1", *windows).code == "request.ambiguous"


def test_with_attribution_shared_a_request_is_one_of_the_open_calls(served: Served, upstream: Upstream) -> None:
    laptop, _ = served.enrol("shared", tools=["get_*", "create_*"])
    reading = opened(laptop, server="shared")
    writing = opened(laptop, "create_item", server="shared")
    assert laptop.request("shared", f"{upstream.url}/items", reading, writing, method="POST").status == 200
    both = wire.Window(reading.call), wire.Window(writing.call)
    assert laptop.request("shared", f"{upstream.url}/items/1", *both).status == 200
    story = served.administrator.administer("GET", f"/v1/admin/calls/{reading.call}")
    requests = [entry for entry in story["entries"] if entry["kind"] == "request"]
    assert [set(entry["calls"]) for entry in requests] == [{reading.call, writing.call}], "which were open"
    laptop.settle(writing.call)
    answer = laptop.request("shared", f"{upstream.url}/items", *both, method="POST")
    assert (answer.status, answer.code) == (403, "window.closed")


def test_with_attribution_shared_a_call_that_is_over_holds_up_no_other(served: Served, upstream: Upstream) -> None:
    laptop, _ = served.enrol("shared")
    open_still, over = (opened(laptop, server="shared") for _ in range(2))
    laptop.settle(over.call)
    assert laptop.request("shared", f"{upstream.url}/items/1", open_still, over).status == 200
    many = [wire.Window(over.call)] * 1001
    assert laptop.request("shared", f"{upstream.url}/items/1", *many).code == "request.ambiguous"


def test_a_window_is_for_its_own_server(served: Served, upstream: Upstream) -> None:
    scope = {"tools": ["get_*"]}
    form = {"person": "vera", "servers": {"keyed": scope, "shared": scope}}
    made = served.administrator.administer("POST", "/v1/admin/grants", form)
    laptop = SigningLaptop.enrolled(served.url, made["invite"])
    window = opened(laptop)
    assert laptop.request("keyed", f"{upstream.url}/items/1", window).status == 200
    answer = laptop.request("shared", f"{upstream.url}/items/1", wire.Window(window.call))
    assert (answer.status, answer.code) == (403, "window.unknown")


def test_a_rotated_key_is_used_by_the_next_request_of_an_open_window(served: Served, upstream: Upstream) -> None:
    served.add_server("rotating", keyed_entry(upstream.url), "an old key of no use")
    laptop, _ = served.enrol("rotating")
    window = opened(laptop, server="rotating")
    head, _ = wire.split(laptop.request("rotating", f"{upstream.url}/items/1", window).body)
    assert head["status"] == 401
    served.administrator.administer("POST", "/v1/admin/servers/rotating/key", {"secret": CANARY})
    head, _ = wire.split(laptop.request("rotating", f"{upstream.url}/items/1", wire.Window(window.call)).body)
    assert head["status"] == 200


def test_the_event_stream_tells_of_a_change_within_a_second(served: Served) -> None:
    laptop, grant = served.enrol()
    with laptop.events() as events:
        assert events.next("nonce")["nonce"]
        assert events.next()["state"] == "active"
        for verb, state in (("suspend", "suspended"), ("resume", "active"), ("revoke", "revoked")):
            served.change(grant, verb)
            session, seconds = events.timed()
            assert session["state"] == state
            assert seconds < 1


def test_one_grant_has_a_bound_of_event_streams_and_gets_a_place_back_with_each_that_ends(served: Served) -> None:
    laptop, _ = served.enrol()
    other, _ = served.enrol()
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(laptop.events()) for _ in range(MOST_STREAMS)]
        assert {stream.status for stream in streams} == {200}
        with laptop.events() as refused:
            assert refused.status == 429
        with other.events() as events:
            assert events.next()["state"] == "active"
        with streams[0]:
            pass
        wait_for(lambda: has_a_place(laptop), "the broker notices")


def has_a_place(laptop: SigningLaptop) -> bool:
    with laptop.events() as events:
        return events.status == 200


def test_an_open_answer_of_an_upstream_is_cut_within_a_second_of_a_revocation(
    served: Served, upstream: Upstream
) -> None:
    laptop, grant = served.enrol()
    window = opened(laptop)
    with laptop.streaming("keyed", f"{upstream.url}/stream", window) as answer:
        served.change(grant, "revoke")
        start = time.monotonic()
        with contextlib.suppress(OSError, http.client.HTTPException):
            while answer.read1(65536):
                pass
        assert time.monotonic() - start < 1


def test_an_open_answer_of_an_upstream_is_cut_at_its_calls_own_deadline(served: Served, upstream: Upstream) -> None:
    laptop, _ = served.enrol()
    window = opened(laptop)
    end_ms = int((time.time() + 1.5) * 1000)
    served.past_the_broker(f"UPDATE log SET deadline_ms = {end_ms} WHERE kind = 'call' AND id = '{window.call}'")  # noqa: S608 - ours
    with laptop.streaming("keyed", f"{upstream.url}/stream", window) as answer:
        with contextlib.suppress(OSError, http.client.HTTPException):
            while time.time() * 1000 < end_ms + 5000 and answer.read1(65536):
                pass
        assert time.time() * 1000 < end_ms + 5000


def test_an_open_answer_of_an_upstream_is_cut_when_its_call_is_settled_on_whatever_replica(
    served: Served, upstream: Upstream
) -> None:
    laptop, _ = served.enrol()
    with replicas(served) as urls:
        for url in urls:
            window = opened(laptop)
            with laptop.streaming("keyed", f"{upstream.url}/stream", window) as answer:
                assert replace(laptop, at=url).settle(window.call).status == 204
                with pytest.raises((http.client.IncompleteRead, ConnectionError)):
                    answer.read()


def test_a_head_that_would_change_the_method_is_refused_and_recorded(served: Served, upstream: Upstream) -> None:
    laptop, grant = served.enrol()
    window = opened(laptop)
    headers = (("X-HTTP-Method-Override", "DELETE"),)
    message = egress_message("keyed", f"{upstream.url}/items/overridden", window, headers=headers)
    answer = laptop.exchange("POST", wire.PATH_EGRESS, message, laptop.headers("POST", wire.PATH_EGRESS, message))
    assert (answer.status, answer.code) == (403, "request.override")
    story = served.administrator.administer("GET", f"/v1/admin/calls/{window.call}")
    assert [entry["reason"] for entry in story["entries"]] == ["grant.tool", "request.override"]
    assert grant in str(story)


def test_a_stranger_is_refused_before_a_body_is_read(served: Served) -> None:
    host = served.url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=10)
    connection.putrequest("POST", wire.PATH_EGRESS)
    connection.putheader("Percall-Wire", str(wire.VERSION))
    connection.putheader("Content-Length", str(wire.MAX_EGRESS_BODY_BYTES))
    connection.endheaders()
    assert connection.getresponse().status == 401  # while not a byte of the body was sent
    connection.close()
