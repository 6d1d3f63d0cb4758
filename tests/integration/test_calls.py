"""Calls as a broker that is served decides them: by grant, once, durably, and never by two readings."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from harness.processes import keyed_entry, wait_for
from harness.signing import SigningLaptop, call_message
from percall import wire
from percall.proof import DeviceKey, digest

if TYPE_CHECKING:
    from harness.upstream import Upstream
    from integration.conftest import Served


def test_a_named_tool_is_permitted_and_gets_a_credential(served: Served) -> None:
    laptop, _ = served.enrol()
    answer = laptop.call("keyed", "get_item", {"id": 1})
    assert answer["decision"] == "permit"
    assert answer["deadline_seconds"] == 600
    assert answer["credential"]
    assert len(answer["call"]) == 22


def test_an_unnamed_tool_is_forbidden_with_what_to_do_and_recorded(served: Served) -> None:
    laptop, _ = served.enrol()
    answer = laptop.call("keyed", "delete_item")
    assert answer["decision"] == "forbid"
    assert answer["refusal"]["code"] == "grant.tool"
    assert "delete_item" in answer["refusal"]["message"]
    assert answer["refusal"]["next_step"]
    assert "credential" not in answer
    (row,) = laptop.log()
    assert (row["call"], row["decision"], row["reason"], row["outcome"]) == (
        answer["call"],
        "forbid",
        "grant.tool",
        "refused",
    )


def test_an_agent_reads_its_own_calls_also_of_a_grant_that_has_ended_and_no_other_agents(served: Served) -> None:
    made = served.invite()
    laptop = SigningLaptop.enrolled(served.url, made["invite"])
    call = laptop.call("keyed", "get_item")["call"]
    laptops = {}
    for agent, key in (("default", laptop.key), ("cursor", DeviceKey(os.urandom(32)))):
        form = {"person": made["person"], "servers": {"keyed": {"tools": ["get_*"]}}, "agent": agent, "expires_at": 0}
        grant = served.administrator.administer("POST", "/v1/admin/grants", form)["grant"]
        enrolled = laptop.claim(agent, key=key).json["enrolled"]
        token = next(one["token"] for one in enrolled if one["session"]["grant"] == grant)
        laptops[agent] = SigningLaptop(served.url, key, token)
    served.administrator.administer("POST", f"/v1/admin/grants/{made['grant']}/revoke")
    assert [row["call"] for row in laptops["default"].log()] == [call]
    assert laptops["cursor"].log() == []
    assert laptop.send("GET", wire.PATH_CALLS).code == "grant.revoked"


@pytest.mark.parametrize(
    ("method", "params", "decision"),
    [
        ("prompts/get", {"name": "summary"}, "permit"),
        ("prompts/get", {"name": "other"}, "forbid"),
        ("resources/read", {"uri": "file:///work/a.txt"}, "permit"),
        ("resources/read", {"uri": "file:///home/a.txt"}, "forbid"),
        ("resources/subscribe", {"uri": "file:///work/a.txt"}, "permit"),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": "summary"}, "argument": {}}, "permit"),
        ("completion/complete", {"ref": {"type": "ref/resource", "uri": "file:///home/x"}}, "forbid"),
        ("subscriptions/listen", {"notifications": {"resourceSubscriptions": ["file:///work/a"]}}, "permit"),
        ("subscriptions/listen", {"notifications": {"resourceSubscriptions": ["file:///home/a"]}}, "forbid"),
        ("tasks/get", {"taskId": "1"}, "permit"),
        ("tools/call", {"name": "summary"}, "forbid"),
        ("something/else", {}, "forbid"),
    ],
)
def test_other_methods_are_decided_by_what_they_are_about(
    served: Served, method: str, params: dict[str, Any], decision: str
) -> None:
    laptop, _ = served.enrol(prompts=["sum*"], resources=["file:///work/*"])
    assert laptop.ask("keyed", method, params).json["decision"] == decision


def test_a_server_that_the_grant_does_not_name_is_forbidden_whether_or_not_it_exists(served: Served) -> None:
    laptop, _ = served.enrol()
    for server in ("shared", "nowhere"):
        answer = laptop.call(server, "get_item")
        assert (answer["decision"], answer["refusal"]["code"]) == ("forbid", "grant.server")


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b'{"method":"tools/call","params":{"name":"get_a","name":"delete_a"}}', "frame.duplicate"),
        (b'{"method":"tools/call","params":{"name":"get_a","Name":"delete_a"}}', "frame.case"),
        (b'{"method":"tools/call","Method":"x","params":{"name":"get_a"}}', "frame.case"),
        (b'{"method":"tools/call","params":{"name":"get_a","arguments":{"x":NaN}}}', "frame.number"),
        (b'{"method":"tools/call","params":{"name":"get_\xff"}}', "frame.utf8"),
        (b'[{"method":"tools/call","params":{"name":"get_a"}}]', "frame.type"),
        (b'{"method":"tools/call","params":["get_a"]}', "frame.params"),
        (b'{"method":"tools/call","params":{"name":7}}', "frame.name"),
        (b'{"method":"resources/read","params":{"uri":"file:///work/%2e%2e/etc"}}', "frame.uri"),
        (
            b'{"method":"subscriptions/listen","params":{"notifications":{"resourceSubscriptions":""}}}',
            "frame.notifications",
        ),
        (
            b'{"method":"tools/call","params":{"name":"get_a","arguments":' + b"[" * 80 + b"]" * 80 + b"}}",
            "frame.nesting",
        ),
        (
            b'{"method":"tools/call","params":{"name":"get_a","arguments":{"x":[' + b"[]," * wire.MAX_VALUES + b"0]}}}",
            "frame.values",
        ),
    ],
)
def test_a_frame_that_readers_could_take_differently_or_long_for_is_refused(
    served: Served, frame: bytes, code: str
) -> None:
    laptop, _ = served.enrol()
    answer = laptop.send("POST", wire.PATH_CALLS, wire.join({"server": "keyed"}, frame))
    assert (answer.status, answer.code) == (400, code)


def test_a_captured_request_is_refused_also_after_a_restart(served: Served) -> None:
    laptop, _ = served.enrol()
    laptop.call("keyed", "get_item")
    for tool, decision in (("get_item", "permit"), ("delete_item", "forbid")):
        body = call_message("keyed", "tools/call", {"name": tool})
        headers = laptop.headers("POST", wire.PATH_CALLS, body)
        first = laptop.exchange("POST", wire.PATH_CALLS, body, headers)
        assert first.json["decision"] == decision
        again = laptop.exchange("POST", wire.PATH_CALLS, body, headers)
        assert (again.status, again.code) == (401, "proof.replayed")
        served.stop()
        served.start()
        later = laptop.exchange("POST", wire.PATH_CALLS, body, headers)
        assert (later.status, later.code) == (401, "proof.replayed")
    assert len(laptop.log()) == 3


def test_a_captured_request_that_leaves_no_row_is_refused_too(served: Served) -> None:
    laptop, _ = served.enrol()
    assert laptop.send("GET", wire.PATH_SESSION).status == 200
    headers = laptop.headers("GET", wire.PATH_SESSION, b"")
    assert laptop.exchange("GET", wire.PATH_SESSION, b"", headers).status == 200
    assert laptop.exchange("GET", wire.PATH_SESSION, b"", headers).code == "proof.replayed"


def test_a_proof_for_another_body_path_or_device_is_refused(served: Served) -> None:
    laptop, _ = served.enrol()
    thief, _ = served.enrol()
    laptop.call("keyed", "get_item")
    body = call_message("keyed", "tools/call", {"name": "get_item"})
    other = call_message("keyed", "tools/call", {"name": "get_other"})
    headers = laptop.headers("POST", wire.PATH_CALLS, body)
    assert laptop.exchange("POST", wire.PATH_CALLS, other, headers).code == "proof.digest"
    assert laptop.exchange("POST", wire.PATH_SETTLEMENTS, body, headers).status in {400, 401}
    thief.nonce, thief.token = laptop.nonce, laptop.token
    assert thief.send("POST", wire.PATH_CALLS, body).code == "proof.device"


def test_a_missing_nonce_is_asked_for_and_a_made_up_one_is_refused(served: Served) -> None:
    laptop, _ = served.enrol()
    body = call_message("keyed", "tools/call", {"name": "get_item"})
    for nonce in ("", "AAAAAAAAAAAAAAAAAAAAAAAAAAAA"):
        laptop.nonce = nonce
        answer = laptop.exchange("POST", wire.PATH_CALLS, body, laptop.headers("POST", wire.PATH_CALLS, body))
        assert (answer.status, answer.code) == (401, "proof.nonce")
        assert answer.headers["www-authenticate"] == 'DPoP error="use_dpop_nonce"'
        assert answer.headers["dpop-nonce"]


def test_a_nonce_that_was_asked_for_beforehand_spares_a_first_request_its_repetition(served: Served) -> None:
    laptop, _ = served.enrol()
    given = laptop.exchange("GET", wire.PATH_NONCE, b"", {})
    assert given.status == 204
    assert given.headers["cache-control"] == "no-store"
    laptop.nonce = given.headers["dpop-nonce"]
    body = call_message("keyed", "tools/call", {"name": "get_item"})
    answer = laptop.exchange("POST", wire.PATH_CALLS, body, laptop.headers("POST", wire.PATH_CALLS, body))
    assert (answer.status, answer.json["decision"]) == (200, "permit")


def test_a_request_without_a_grant_or_for_another_host_is_refused(served: Served) -> None:
    laptop, _ = served.enrol()
    assert laptop.exchange("POST", wire.PATH_CALLS, b"{}\n{}", {"Percall-Wire": "1"}).status in {400, 401}
    answer = laptop.exchange("GET", wire.PATH_SESSION, b"", {"Host": "evil.example", "Percall-Wire": "1"})
    assert (answer.status, answer.code) == (400, "request.host")
    assert laptop.exchange("GET", "/v1/nothing", b"", {}).status == 404
    assert laptop.exchange("GET", "/v1/admin/grants", b"", {"Percall-Wire": "1"}).code == "grant.missing"


@pytest.mark.parametrize("verb", ["suspend", "revoke"])
def test_the_very_next_call_after_a_change_is_refused_and_recorded(served: Served, verb: str) -> None:
    laptop, grant = served.enrol()
    assert laptop.call("keyed", "get_item")["decision"] == "permit"
    served.change(grant, verb)
    answer = laptop.call("keyed", "get_item")
    assert answer["refusal"]["code"] == {"suspend": "grant.suspended", "revoke": "grant.revoked"}[verb]
    rows = served.administrator.administer("GET", f"/v1/admin/calls?grant={grant}")
    assert json.dumps(rows).count(answer["call"]) == 1


@pytest.mark.parametrize("verb", ["suspend", "revoke"])
def test_arguments_of_whoever_was_shut_out_are_not_kept(served: Served, verb: str) -> None:
    def kept(call: str) -> str:
        return str(served.administrator.administer("POST", f"/v1/admin/calls/{call}/arguments")["arguments"])

    laptop, grant = served.enrol()
    assert kept(laptop.call("keyed", "drop_item", {"id": 7})["call"]) == '{"id": 7}'
    served.change(grant, verb)
    call = laptop.call("keyed", "drop_item", {"id": 7})["call"]
    assert kept(call) == ""
    story = served.administrator.administer("GET", f"/v1/admin/calls/{call}")
    assert digest(b'{"id": 7}') in json.dumps(story)


def test_a_resumed_grant_works_at_the_very_next_call(served: Served) -> None:
    laptop, grant = served.enrol()
    served.change(grant, "suspend")
    assert laptop.call("keyed", "get_item")["decision"] == "forbid"
    served.change(grant, "resume")
    assert laptop.call("keyed", "get_item")["decision"] == "permit"


def test_an_expired_grant_is_refused_and_says_so(served: Served) -> None:
    laptop, _ = served.enrol(expires_at=int(time.time()) + 2)
    wait_for(lambda: laptop.call("keyed", "get_item")["decision"] == "forbid", "the grant has expired")
    assert laptop.call("keyed", "get_item")["refusal"]["code"] == "grant.expired"
    assert laptop.send("GET", wire.PATH_SESSION).json["state"] == "expired"


def test_an_entry_that_was_removed_is_refused_and_one_that_changed_is_decided_anew(
    served: Served, upstream: Upstream
) -> None:
    served.add_server("changing", keyed_entry(upstream.url), "a key of no use")
    laptop, _ = served.enrol("changing")
    assert laptop.call("changing", "get_item")["decision"] == "permit"
    form = {"entry": keyed_entry(upstream.url).replace("[server]", "[server]\ndeadline_seconds = 30")}
    served.administrator.administer("PUT", "/v1/admin/servers/changing", form)
    assert laptop.call("changing", "get_item")["deadline_seconds"] == 30
    served.administrator.administer("DELETE", "/v1/admin/servers/changing")
    assert laptop.call("changing", "get_item")["refusal"]["code"] == "server.removed"


def test_outcomes_ride_on_the_next_call_and_the_first_one_stands(served: Served) -> None:
    laptop, _ = served.enrol()
    call = laptop.call("keyed", "get_item")["call"]
    settled = (wire.Settlement(call, "done", 12, {"roots/list": 1}),)
    assert laptop.ask("keyed", "tools/call", {"name": "get_next"}, settle=settled).status == 200
    assert laptop.settle(call, "failed").status == 204
    row = next(row for row in laptop.log() if row["call"] == call)
    assert (row["outcome"], row["duration_ms"]) == ("done", 12)


def test_nobody_settles_anothers_call(served: Served) -> None:
    laptop, _ = served.enrol()
    other, _ = served.enrol()
    call = laptop.call("keyed", "get_item")["call"]
    assert other.settle(call, "failed").status == 204
    assert laptop.log()[0]["outcome"] == ""


def test_an_outcome_that_we_do_not_know_is_refused(served: Served) -> None:
    laptop, _ = served.enrol()
    call = laptop.call("keyed", "get_item")["call"]
    assert laptop.settle(call, "splendid").code == "settle.form"


def test_an_invite_enrols_one_device_once(served: Served) -> None:
    made = served.invite()
    assert SigningLaptop.enrolled(served.url, made["invite"]).call("keyed", "get_item")["decision"] == "permit"
    assert SigningLaptop(served.url).enrol(made["invite"]).code == "invite.used"
    assert SigningLaptop(served.url).enrol("made-up").code == "invite.unknown"


def test_a_device_key_belongs_to_one_person(served: Served) -> None:
    mine, theirs = served.invite(), served.invite()
    laptop = SigningLaptop.enrolled(served.url, mine["invite"])
    laptop.token = ""
    assert laptop.enrol(theirs["invite"]).code == "device.other"
    assert SigningLaptop(served.url).enrol(theirs["invite"]).status == 200


def test_enrolment_needs_a_proof_of_the_key_that_introduces_itself(served: Served) -> None:
    made = served.invite()
    laptop = SigningLaptop(served.url)
    answer = laptop.enrol(made["invite"], signer=DeviceKey(os.urandom(32)))
    assert (answer.status, answer.code) == (401, "proof.device")
    assert laptop.enrol(made["invite"]).status == 200


@pytest.mark.parametrize("changed", ["state = 'suspended'", "state = 'revoked'", "expires_at = 1"])
def test_an_invite_opens_no_grant_that_does_not_stand(served: Served, changed: str) -> None:
    made = served.invite()
    served.past_the_broker(f"UPDATE grants SET {changed} WHERE id = '{made['grant']}'")  # noqa: S608 - an id of ours
    answer = SigningLaptop(served.url).enrol(made["invite"])
    assert (answer.status, answer.code) == (401, "invite.grant")


def test_an_invite_holds_so_long(served: Served) -> None:
    made = served.invite()
    ending = "UPDATE invites SET expires_at = {} WHERE grant_id = '{}'"
    served.past_the_broker(ending.format(int(time.time()), made["grant"]))
    answer = SigningLaptop(served.url).enrol(made["invite"])
    assert (answer.status, answer.code) == (401, "invite.expired")
    served.past_the_broker(ending.format(int(time.time()) + 60, made["grant"]))
    assert SigningLaptop(served.url).enrol(made["invite"]).status == 200


@pytest.mark.parametrize("name", ["", "a\nb", "a" * 129])
def test_a_device_is_named_in_one_line_and_the_invite_of_another_stays(served: Served, name: str) -> None:
    made = served.invite()
    laptop = SigningLaptop(served.url)
    assert laptop.enrol(made["invite"], device=name).code == "device.name"
    assert laptop.enrol(made["invite"], device="a" * 128).status == 200


def test_a_grant_without_administration_changes_nothing(served: Served) -> None:
    laptop, grant = served.enrol()
    answer = laptop.send("POST", f"/v1/admin/grants/{grant}/resume")
    assert (answer.status, answer.code) == (403, "grant.administrator")


def test_a_stopped_broker_ends_cleanly_with_streams_open(served: Served) -> None:
    laptop, _ = served.enrol()
    with laptop.events() as events:
        events.next()
        started = time.monotonic()
        assert served.stop() == 0
        assert time.monotonic() - started < 5
    served.start()
