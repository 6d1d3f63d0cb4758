"""People, devices, groups and the brake: what ends with them, at the next call, and what does not."""

from __future__ import annotations

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from harness.processes import automation_invite, command, wait_for
from harness.signing import SigningLaptop
from integration.conftest import Served
from percall import wire
from percall.proof import DeviceKey

if TYPE_CHECKING:
    from pathlib import Path

    from harness.signing import Answer
    from harness.upstream import Upstream

ADMIN = "/v1/admin"


def person_of(served: Served) -> str:
    return f"person{served.people}"


def change(served: Served, path: str, form: Any = None) -> dict[str, Any]:
    return dict(served.administrator.administer("POST", ADMIN + path, form))


def refused(served: Served, path: str, form: Any = None) -> Answer:
    body = b"" if form is None else wire.dump(form)
    return served.administrator.send("POST", ADMIN + path, body)


def code_of(laptop: SigningLaptop, server: str = "keyed") -> str:
    answer = laptop.call(server, "get_item")
    return str(answer["refusal"]["code"]) if answer["decision"] == "forbid" else "permit"


def opened(laptop: SigningLaptop) -> wire.Window:
    answer = laptop.call("keyed", "get_item")
    assert answer["decision"] == "permit", answer
    return wire.Window(answer["call"], answer["credential"])


# --- people -----------------------------------------------------------------------------------------------------------


def test_removing_a_person_ends_all_that_is_theirs_and_nothing_else(served: Served) -> None:
    other, _ = served.enrol()
    laptop, grant = served.enrol()
    name = person_of(served)
    change(served, "/groups/leavers/join", {"people": [name]})
    pending = change(served, f"/people/{name}/invite")["invite"]
    further = change(served, "/grants", {"person": name, "servers": {"keyed": {"tools": ["get_*"]}}})["grant"]
    window = opened(laptop)

    removed = change(served, f"/people/{name}/remove")

    ended = {"grants": 3, "devices": 1, "invites": 1, "groups": 1, "keys": 0, "approvals": 0}
    assert removed["ended"] == ended
    assert code_of(laptop) == "person.removed"
    assert laptop.request("keyed", "http://127.0.0.1:9/items/1", window).code == "person.removed"
    assert laptop.claim().code == "person.removed"
    assert SigningLaptop(served.url).enrol(pending).status == 401
    assert code_of(other) == "permit"
    shown = served.administrator.administer("GET", f"{ADMIN}/people/{name}")
    assert {row["grant"]: row["own_state"] for row in shown["grants"]}.items() >= {
        grant: "revoked", further: "revoked"
    }.items()  # fmt: skip
    assert [row["state"] for row in shown["devices"]] == ["revoked"]
    assert shown["groups"] == []


def test_a_person_removed_twice_is_told_so_and_may_come_back_with_nothing_of_old(served: Served) -> None:
    laptop, _ = served.enrol()
    name = person_of(served)
    change(served, f"/people/{name}/remove")
    again = refused(served, f"/people/{name}/remove")
    assert (again.status, again.code) == (409, "person.state")
    assert "removed already" in again.json["error"]["message"]
    invite = change(served, "/grants", {"person": name, "servers": {"keyed": {"tools": ["get_*"]}}})["invite"]
    assert laptop.enrol(invite).code == "device.revoked", "the old machine's key does not come back by itself"
    back = SigningLaptop.enrolled(served.url, invite)
    assert code_of(back) == "permit"
    assert code_of(laptop) == "device.revoked"


def test_a_suspended_person_is_refused_until_resumed(served: Served) -> None:
    laptop, _ = served.enrol()
    name = person_of(served)
    change(served, f"/people/{name}/suspend")
    assert code_of(laptop) == "person.suspended"
    assert refused(served, f"/people/{name}/suspend").code == "person.state"
    assert refused(served, f"/people/{name}/invite").code == "person.state"
    change(served, f"/people/{name}/resume")
    assert code_of(laptop) == "permit"
    assert "active already" in refused(served, f"/people/{name}/resume").json["error"]["message"]


def test_the_event_stream_says_in_words_what_stops_a_grant(served: Served) -> None:
    laptop, _ = served.enrol()
    name = person_of(served)
    with laptop.events() as events:
        assert "refusal" not in events.next()
        change(served, f"/people/{name}/suspend")
        session = events.next()
        assert (session["state"], session["refusal"]["code"]) == ("suspended", "person.suspended")
        assert name in session["refusal"]["message"]
        change(served, f"/people/{name}/resume")
        assert events.next()["state"] == "active"
        change(served, "/freezes", {"kind": "server", "name": "keyed", "reason": "a test"})
        (server,) = events.next()["servers"]
        assert server["refusal"]["code"] == "server.frozen"
        change(served, "/freezes/lift", {"kind": "server", "name": "keyed"})
        (server,) = events.next()["servers"]
        assert server["refusal"] is None


def test_somebody_unknown_is_named_as_such(served: Served) -> None:
    for verb in ("suspend", "resume", "remove"):
        assert refused(served, f"/people/nobody/{verb}").code == "person.unknown"
    assert refused(served, "/devices/revoke", {"device": "nothing"}).code == "device.unknown"
    assert refused(served, "/freezes", {"kind": "person", "name": "nobody"}).code == "person.unknown"
    assert refused(served, "/freezes", {"kind": "all", "name": "keyed"}).code == "freeze.kind"
    assert refused(served, "/groups/g/join", {"people": ["nobody"]}).code == "person.unknown"
    assert refused(served, "/groups/none/leave", {"people": ["nobody"]}).code == "group.unknown"


# --- devices ----------------------------------------------------------------------------------------------------------


def test_a_revoked_device_ends_the_grants_of_all_its_agents_and_no_other_device_s(served: Served) -> None:
    laptop, _ = served.enrol()
    name = person_of(served)
    second = SigningLaptop.enrolled(served.url, change(served, f"/people/{name}/invite")["invite"])
    change(served, "/grants", {"person": name, "servers": {"keyed": {"tools": ["get_*"]}}, "agent": "cursor"})
    cursor = SigningLaptop(served.url, DeviceKey(os.urandom(32)))
    cursor.token = laptop.claim("cursor", key=cursor.key).json["enrolled"][0]["token"]
    change(served, "/grants", {"person": name, "servers": {"keyed": {"tools": ["get_*"]}}})
    (elsewhere,) = second.claimed()
    device = laptop.send("GET", wire.PATH_SESSION).json["device_id"]
    assert cursor.send("GET", wire.PATH_SESSION).json["device_id"] == device

    revoked = change(served, "/devices/revoke", {"device": device})
    assert (revoked["ended"], revoked["passkeys"]) == ({"grants": 2}, 0)

    assert [code_of(laptop), code_of(cursor), code_of(elsewhere)] == ["device.revoked", "device.revoked", "permit"]
    assert "revoked already" in refused(served, "/devices/revoke", {"device": device}).json["error"]["message"]


def test_a_device_is_found_by_its_id_whatever_others_are_called(served: Served) -> None:
    laptop, _ = served.enrol()
    device = laptop.send("GET", wire.PATH_SESSION).json["device_id"]
    invite = change(served, f"/people/{person_of(served)}/invite")["invite"]
    SigningLaptop(served.url).enrol(invite, device=device)  # whose name is the other one's id
    change(served, "/freezes", {"kind": "device", "name": device})
    assert code_of(laptop) == "device.frozen"
    assert change(served, "/devices/revoke", {"device": device})["device"] == device


def test_an_invite_that_two_devices_use_at_once_enrols_one(served: Served) -> None:
    invite = served.invite()["invite"]
    start = threading.Barrier(8)

    def enrol(laptop: SigningLaptop) -> Answer:
        start.wait(30)
        return laptop.enrol(invite)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(enrol, [SigningLaptop(served.url) for _ in range(8)]))
    assert [answer.status for answer in answers].count(200) == 1
    assert {answer.code for answer in answers if answer.status != 200} == {"invite.used"}


# --- what waits -------------------------------------------------------------------------------------------------------


def test_a_grant_for_somebody_with_a_device_waits_and_is_picked_up_without_an_invite(served: Served) -> None:
    laptop, _ = served.enrol()
    form = {"person": person_of(served), "servers": {"shared": {"tools": ["get_*"]}}}
    made = change(served, "/grants", form)
    assert (made["waits"], made["invite"]) == (True, "")
    assert code_of(laptop, "shared") == "grant.server"
    assert [row["grant"] for row in laptop.send("GET", wire.PATH_CLAIMS).json["grants"]] == [made["grant"]]
    (further,) = laptop.claimed()
    assert code_of(further, "shared") == "permit"
    assert laptop.send("GET", wire.PATH_CLAIMS).json["grants"] == []
    (again,) = laptop.claimed()
    assert code_of(again, "shared") == "permit", "an answer that was lost is given again"


def granted(served: Served, person: str) -> tuple[str, str]:
    """A grant for somebody new, and its invite."""
    made = change(served, "/grants", {"person": person, "servers": {"keyed": {"tools": ["get_*"]}}})
    return made["grant"], made["invite"]


def lapse(served: Served) -> None:
    """All invites that nobody has used."""
    served.past_the_broker("UPDATE invites SET expires_at = 1 WHERE used_at IS NULL")


def test_what_was_granted_with_an_invite_that_nobody_used_in_time_waits_for_the_next_one(served: Served) -> None:
    grant, invite = granted(served, "late")
    lapse(served)
    again = change(served, "/people/late/invite")
    assert [row["grant"] for row in again["waiting"]] == [grant]
    recorded = served.administrator.administer("GET", f"{ADMIN}/changes?limit=1")[0]
    assert (recorded["action"], recorded["details"]["waits"]) == ("grant.create", [grant])
    laptop = SigningLaptop.enrolled(served.url, again["invite"])
    (claimed,) = laptop.claimed()
    assert claimed.call("keyed", "get_item")["decision"] == "permit"
    late = SigningLaptop(served.url).enrol(invite)
    assert (late.status, late.code) == (409, "invite.taken"), "it is bound to one device key, once"


def test_an_invite_that_still_holds_keeps_its_grant_for_who_has_it(served: Served) -> None:
    _, invite = granted(served, "early")
    other = change(served, "/people/early/invite")
    assert other["waiting"] == []
    assert SigningLaptop.enrolled(served.url, other["invite"]).claimed() == []
    holder = SigningLaptop.enrolled(served.url, invite)
    assert holder.call("keyed", "get_item")["decision"] == "permit"
    assert change(served, "/people/early/invite")["waiting"] == [], "it is used up, and its grant is taken"


def test_an_automation_for_people_alone_lets_no_grant_wait(served: Served) -> None:
    grant, _ = granted(served, "lone")
    lapse(served)
    people = SigningLaptop.enrolled(served.url, automation_invite(served.environment, may="people"))
    invited = people.administer("POST", f"{ADMIN}/people/lone/invite")
    assert invited["waiting"] == []
    assert SigningLaptop.enrolled(served.url, invited["invite"]).claimed() == []
    both = SigningLaptop.enrolled(served.url, automation_invite(served.environment, may="people,grants"))
    assert [row["grant"] for row in both.administer("POST", f"{ADMIN}/people/lone/invite")["waiting"]] == [grant]


def test_an_automation_for_people_alone_gives_nobody_a_group_s_grants(served: Served) -> None:
    people = SigningLaptop.enrolled(served.url, automation_invite(served.environment, may="people"))
    people.administer("POST", f"{ADMIN}/people/mina/invite")
    people.administer("POST", f"{ADMIN}/groups/readers/join", {"people": []})
    change(served, "/groups/readers/grants", {"servers": {"keyed": {"tools": ["get_*"]}}})
    join = ("POST", f"{ADMIN}/groups/readers/join", wire.dump({"people": ["mina"]}))
    assert people.send(*join).code == "automation.area"
    both = SigningLaptop.enrolled(served.url, automation_invite(served.environment, may="people,grants"))
    assert both.send(*join).json["joined"] == ["mina"]


def test_a_new_agent_s_key_must_show_itself_and_nobody_else_s_grant_is_picked_up(served: Served) -> None:
    laptop, _ = served.enrol()
    name = person_of(served)
    stranger, _ = served.enrol()
    change(served, "/grants", {"person": name, "servers": {"keyed": {"tools": ["*"]}}, "agent": "cursor"})
    cursor = DeviceKey(os.urandom(32))
    assert laptop.claim("cursor", key=cursor, introduced=False).status == 401
    assert laptop.claim("cursor", key=cursor, signer=laptop.key).code == "proof.device"
    assert laptop.claim("cursor").code == "device.agent"
    assert stranger.claim("cursor", key=DeviceKey(os.urandom(32))).json["enrolled"] == []
    assert laptop.claim("cursor", key=stranger.key).code == "device.other"
    assert len(laptop.claim("cursor", key=cursor).json["enrolled"]) == 1


def test_an_administrator_s_grant_is_never_picked_up_by_a_signature(served: Served) -> None:
    laptop, _ = served.enrol()
    assert served.local_invite(person_of(served))
    assert laptop.claim().json["enrolled"] == []


def test_an_expired_or_revoked_grant_still_picks_up_what_takes_its_place(served: Served) -> None:
    laptop, grant = served.enrol()
    served.change(grant, "revoke")
    change(served, "/grants", {"person": person_of(served), "servers": {"keyed": {"tools": ["get_*"]}}})
    (renewed,) = laptop.claimed()
    assert code_of(renewed) == "permit"


def test_an_agent_that_leaves_ends_its_own_grants_and_its_key(served: Served) -> None:
    laptop, _ = served.enrol()
    name = person_of(served)
    for agent in ("", "cursor"):
        change(served, "/grants", {"person": name, "servers": {"keyed": {"tools": ["get_*"]}}, "agent": agent})
    cursor = SigningLaptop(served.url, DeviceKey(os.urandom(32)))
    cursor.token = laptop.claim("cursor", key=cursor.key).json["enrolled"][0]["token"]
    assert len(cursor.send("DELETE", wire.PATH_AGENT).json["ended"]) == 2
    assert code_of(cursor) == "grant.revoked"
    assert code_of(laptop) == "permit"
    change(served, "/grants", {"person": name, "servers": {"keyed": {"tools": ["*"]}}, "agent": "cursor"})
    assert cursor.claim("cursor").code == "agent.removed"


# --- groups -----------------------------------------------------------------------------------------------------------


def test_the_record_says_who_joined_and_left_and_nothing_where_nobody_did(served: Served) -> None:
    for name in ("olga", "pim"):
        change(served, f"/people/{name}/invite")
    change(served, "/groups/choir/join", {"people": ["olga"]})
    assert change(served, "/groups/choir/join", {"people": ["olga", "pim", "pim"]})["joined"] == ["pim"]
    assert change(served, "/groups/choir/leave", {"people": ["pim", "nobody"]})["left"] == ["pim"]
    for verb, person in (("join", "olga"), ("leave", "pim")):
        assert refused(served, f"/groups/choir/{verb}", {"people": [person]}).code == "group.member"
    recorded = served.administrator.administer("GET", f"{ADMIN}/changes?limit=4")
    assert [(row["action"], row["details"].get("people")) for row in recorded[:3]] == [
        ("group.remove", ["pim"]),
        ("group.add", ["pim"]),
        ("group.add", ["olga"]),
    ]


def test_members_of_a_group_get_grants_of_their_own_and_lose_them_when_they_leave(
    served: Served, upstream: Upstream
) -> None:
    first, _ = served.enrol()
    one = person_of(served)
    second, _ = served.enrol()
    two = person_of(served)
    change(served, "/people/newcomer/invite")
    group = f"devs{served.people}"
    change(served, f"/groups/{group}/join", {"people": [one, "newcomer"]})
    made = change(
        served, f"/groups/{group}/grants", {"servers": {"shared": {"tools": ["get_*"]}}, "expires_seconds": 900}
    )
    assert {row["person"] for row in made["grants"]} == {one, "newcomer"}
    assert made["without_device"] == ["newcomer"]
    (of_first,) = first.claimed()
    assert change(served, f"/groups/{group}/join", {"people": [one, two]})["joined"] == [two]
    (of_second,) = second.claimed()
    assert [code_of(of_first, "shared"), code_of(of_second, "shared")] == ["permit", "permit"]

    window = opened(second)
    left = change(served, f"/groups/{group}/leave", {"people": [one]})
    assert (left["left"], left["ended_grants"]) == ([one], 1)
    assert second.request("keyed", f"{upstream.url}/items/1", window).status == 200, "nobody else's window is touched"
    assert [code_of(of_first, "shared"), code_of(of_second, "shared")] == ["grant.revoked", "permit"]
    assert code_of(first) == "permit", "a grant that did not come from the group stays"
    assert refused(served, f"/groups/{group}/leave", {"people": [one]}).code == "group.member"

    change(served, f"/groups/{group}/join", {"people": [one]})
    assert code_of(first.claimed()[-1], "shared") == "permit"
    change(served, f"/group-grants/{made['group_grant']}/revoke")
    assert code_of(of_second, "shared") == "grant.revoked"
    served.administrator.administer("DELETE", f"{ADMIN}/groups/{group}")
    assert served.administrator.send("GET", f"{ADMIN}/groups/{group}").code == "group.unknown"


# --- the brake --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["person", "device", "server", "all"])
def test_a_freeze_refuses_the_next_call_and_the_next_request_until_it_is_lifted(
    served: Served, upstream: Upstream, kind: str
) -> None:
    laptop, _ = served.enrol()
    name = person_of(served)
    names = {"person": name, "server": "keyed", "all": ""}
    names["device"] = laptop.send("GET", wire.PATH_SESSION).json["device_id"]
    window, unused = opened(laptop), opened(laptop)
    assert laptop.request("keyed", f"{upstream.url}/items/1", window).status == 200
    other, _ = served.enrol()
    before = len(upstream.with_real_key())

    change(served, "/freezes", {"kind": kind, "name": names[kind], "reason": "an incident"})

    code = f"{'broker' if kind == 'all' else kind}.frozen"
    answer = laptop.call("keyed", "get_item")
    assert answer["refusal"]["code"] == code
    assert answer["refusal"]["message"].startswith("admin froze")
    assert "an incident" in answer["refusal"]["message"]
    assert f"--{kind}" in answer["refusal"]["next_step"]
    assert laptop.request("keyed", f"{upstream.url}/items/2", wire.Window(window.call)).code == code
    assert laptop.request("keyed", f"{upstream.url}/items/2", unused).code == code
    assert len(upstream.with_real_key()) == before
    assert code_of(other) == ("permit" if kind in {"person", "device"} else code)
    assert code_of(other, "shared") == (code if kind == "all" else "grant.server")
    again = refused(served, "/freezes", {"kind": kind, "name": names[kind]})
    assert "frozen already, by admin" in again.json["error"]["message"]
    assert [row["kind"] for row in served.administrator.administer("GET", f"{ADMIN}/freezes")] == [kind]

    served.lift(kind, names[kind])
    assert code_of(laptop) == "permit"
    twice = refused(served, "/freezes/lift", {"kind": kind, "name": names[kind]}).code
    assert twice == ("automation.brake" if kind == "all" else "freeze.state")


def test_a_suspended_server_is_refused_for_all_until_it_is_resumed(served: Served, upstream: Upstream) -> None:
    laptop, _ = served.enrol()
    window = opened(laptop)
    change(served, "/servers/keyed/suspend")
    try:
        assert code_of(laptop) == "server.suspended"
        assert laptop.request("keyed", f"{upstream.url}/items/1", window).code == "server.suspended"
        assert "suspended already" in refused(served, "/servers/keyed/suspend").json["error"]["message"]
    finally:
        change(served, "/servers/keyed/resume")
    assert code_of(laptop) == "permit"


def lifted(kind: str, name: str) -> tuple[str, dict[str, str]]:
    """What lifts a freeze."""
    return "/freezes/lift", {"kind": kind, "name": name}


@pytest.mark.parametrize("what", ["person", "grant", "server", "frozen person", "frozen device", "frozen server"])
def test_an_automation_lets_go_on_only_what_it_stopped_itself(served: Served, what: str) -> None:
    laptop, grant = served.enrol()
    name, device = person_of(served), laptop.send("GET", wire.PATH_SESSION).json["device_id"]
    stops: dict[str, tuple[str, Any]] = {
        "person": (f"/people/{name}/suspend", None),
        "grant": (f"/grants/{grant}/suspend", None),
        "server": ("/servers/keyed/suspend", None),
        "frozen person": ("/freezes", {"kind": "person", "name": name}),
        "frozen device": ("/freezes", {"kind": "device", "name": device}),
        "frozen server": ("/freezes", {"kind": "server", "name": "keyed"}),
    }
    stop, form = stops[what]
    go_on, named = (stop.replace("suspend", "resume"), None) if form is None else lifted(form["kind"], form["name"])
    own = served.administrator
    made = command("percall-broker", "invite", "other", "--automation", "--may", "people,grants,servers", "--json",
                   environment=served.environment)  # fmt: skip
    other = SigningLaptop.enrolled(served.url, json.loads(made.stdout)["invite"])

    def goes_on_by(by: SigningLaptop) -> str:
        answer = by.send("POST", ADMIN + go_on, b"" if named is None else wire.dump(named))
        return "" if answer.status == 200 else answer.code

    for by, another in ((own, other), (other, own)):
        by.administer("POST", ADMIN + stop, form)
        stopped = code_of(laptop)
        assert [goes_on_by(another), code_of(laptop)] == ["automation.brake", stopped]
        assert [goes_on_by(by), code_of(laptop)] == ["", "permit"]
        assert goes_on_by(by).endswith(".state"), "it goes on already"
    served.person.administer("POST", ADMIN + stop, form)
    stopped = code_of(laptop)
    assert [goes_on_by(own), goes_on_by(other), code_of(laptop)] == ["automation.brake", "automation.brake", stopped]
    assert goes_on_by(served.person) == ""
    assert code_of(laptop) == "permit"


def test_no_text_of_an_automation_s_makes_another_stop_its_own(served: Served) -> None:
    laptop, _ = served.enrol()
    name = person_of(served)
    served.enrol()
    served.person.administer("POST", f"{ADMIN}/freezes", {"kind": "person", "name": name})
    reason = f'"details":{{"kind":"person","name":"{name}","reason":""'
    change(served, "/freezes", {"kind": "person", "name": person_of(served), "reason": reason})
    lift, form = lifted("person", name)
    assert (refused(served, lift, form).code, code_of(laptop)) == ("automation.brake", "person.frozen")


@pytest.mark.parametrize("how", ["remove", "suspend", "person", "device", "server", "all"])
def test_an_open_stream_is_cut(served: Served, upstream: Upstream, how: str) -> None:
    laptop, _ = served.enrol()
    name = person_of(served)
    device = laptop.send("GET", wire.PATH_SESSION).json["device_id"]
    window = opened(laptop)
    before = sum(seen.path == "/stream" for seen in upstream.seen)
    frozen = {"kind": how, "name": {"person": name, "device": device, "server": "keyed"}.get(how, "")}
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(laptop.request, "keyed", f"{upstream.url}/stream", window)
        wait_for(lambda: sum(seen.path == "/stream" for seen in upstream.seen) > before, "the stream is open")
        if how in {"remove", "suspend"}:
            change(served, f"/people/{name}/{how}")
        else:
            change(served, "/freezes", frozen)
        try:
            broken = answer.exception(5)
            assert broken is not None or answer.result().status != 200, "the answer breaks off, or never began"
        finally:
            if how not in {"remove", "suspend"}:
                served.lift(**frozen)
    assert not [line for line in served.stderr.text if b'"level": "error"' in line], "it is no fault"


# --- administrators ---------------------------------------------------------------------------------------------------


def test_the_last_administrator_is_neither_removed_nor_suspended_frozen_or_revoked(tmp_path: Path, server: str) -> None:
    with Served(tmp_path, server) as served:
        check_the_last_administrator(served)


def check_the_last_administrator(served: Served) -> None:
    ada = SigningLaptop.of_person(served.url, served.local_invite("ada"))
    session = ada.send("GET", wire.PATH_SESSION).json
    ways = [
        ("/people/ada/remove", None),
        ("/people/ada/suspend", None),
        ("/devices/revoke", {"device": session["device_id"]}),
        ("/freezes", {"kind": "person", "name": "ada"}),
        ("/freezes", {"kind": "device", "name": session["device_id"]}),
        (f"/grants/{session['grant']}/revoke", None),
        (f"/grants/{session['grant']}/suspend", None),
    ]
    for path, form in ways:
        answer = refused(served, path, form)
        assert (path, answer.status, answer.code) == (path, 409, "administrator.last"), "an automation does not count"
        assert "grant create NAME --administrator" in answer.json["error"]["next_step"]
    assert ada.send("DELETE", wire.PATH_AGENT).code == "administrator.last"
    assert ada.send("GET", wire.PATH_SESSION).json["state"] == "active"

    made = ada.administer("POST", f"{ADMIN}/grants", {"person": "eve", "servers": {}, "administrator": True})
    assert refused(served, "/people/ada/suspend").code == "administrator.last", "an invite is no administrator yet"
    eve = SigningLaptop.of_person(served.url, made["invite"])
    eve.administer("POST", f"{ADMIN}/people/ada/suspend")
    assert ada.send("GET", f"{ADMIN}/people").code == "person.suspended"
    assert eve.send("POST", f"{ADMIN}/people/eve/remove").code == "administrator.last"
    assert refused(served, "/people/ada/resume").code == "automation.administrators"
    eve.administer("POST", f"{ADMIN}/people/ada/resume")
    eve.administer("POST", f"{ADMIN}/freezes", {"kind": "person", "name": "ada"})
    assert refused(served, "/freezes/lift", {"kind": "person", "name": "ada"}).code == "automation.administrators"
    eve.administer("POST", f"{ADMIN}/freezes/lift", {"kind": "person", "name": "ada"})


def test_a_removed_person_s_passphrase_does_not_come_back_with_the_name(served: Served) -> None:
    eve = SigningLaptop.of_person(served.url, served.local_invite("mallory"))
    again = served.local_invite("trent")
    SigningLaptop.of_person(served.url, again)
    change(served, "/people/mallory/remove")
    back = SigningLaptop(served.url)
    back.finish(back.enrol(served.local_invite("mallory")))
    back.presence = eve.presence
    assert back.send("POST", f"{ADMIN}/people/trent/suspend").status == 403


def test_a_freeze_of_everything_leaves_administrators_able_to_lift_it(served: Served) -> None:
    laptop, _ = served.enrol()
    change(served, "/freezes", {"kind": "all"})
    assert code_of(laptop) == "broker.frozen"
    assert served.administrator.send("GET", wire.PATH_SESSION).json["state"] == "active"
    assert refused(served, "/freezes/lift", {"kind": "all"}).code == "automation.brake"
    assert code_of(laptop) == "broker.frozen"
    served.lift()
    assert code_of(laptop) == "permit"
