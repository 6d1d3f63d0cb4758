"""Personal and shared keys: whose key a request carries, and what nobody but its owner can do with one."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from harness.processes import automation_invite, command, keyed_entry
from harness.remote import entry as remote_entry
from harness.signing import Answer, SigningLaptop
from harness.upstream import CANARY
from integration.relaying import call, refusal_code, request, settled
from percall import wire

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.remote import Remote
    from harness.upstream import Upstream
    from integration.conftest import Served

MINE = "test_alicesOwnKeyThatNobodyElseMayUse00000001"
NEW = "test_alicesOwnKeyAfterItsRotation00000000002"


def change(person: SigningLaptop, verb: str, key: str = "", server: str = "keyed") -> Answer:
    binding = seen(person, server).binding if verb == "confirm" else ""
    message = wire.join(wire.encode(wire.KeyChange(server, verb, binding)), key.encode())
    return person.send("POST", wire.PATH_KEYS, message)


def seen(person: SigningLaptop, server: str) -> wire.KeyPlace:
    """Where the person is told that a key goes."""
    keys = wire.decode(wire.PersonalKeys, person.send("GET", wire.PATH_KEYS).json)
    return next((place for place in keys.places if place.server == server), wire.KeyPlace(server, "", "nowhere"))


def opened(laptop: SigningLaptop) -> wire.Window:
    call = laptop.call("keyed", "get_item")
    return wire.Window(call["call"], call["credential"])


def changed(person: SigningLaptop, verb: str, key: str = "", server: str = "keyed") -> list[dict[str, Any]]:
    answer = change(person, verb, key, server)
    assert answer.status == 200, answer.body
    assert key.encode() not in answer.body or not key
    return list(answer.json["keys"])


def owner(served: Served, server: str = "keyed") -> tuple[SigningLaptop, str]:
    """A person who has set a passphrase, and their name."""
    made = served.invite(server)
    return SigningLaptop.of_person(served.url, made["invite"]), str(made["person"])


def without_presence(person: SigningLaptop) -> SigningLaptop:
    """The same device, with an agent at it."""
    return dataclasses.replace(person, presence=None)


def carried(laptop: SigningLaptop, upstream: Upstream, server: str = "keyed") -> str:
    """The key that a request of a new call carries; the code of the refusal where there is none."""
    answer = laptop.call(server, "get_item")
    if answer["decision"] != "permit":
        return str(answer["refusal"]["code"])
    path = f"/items/{answer['call']}"
    came = laptop.request(server, upstream.url + path, wire.Window(answer["call"], answer["credential"]))
    if came.status != 200:
        return came.code
    (seen,) = [seen for seen in upstream.seen if seen.path == path]
    return key_in(seen.headers)


def test_a_key_for_a_server_that_no_grant_names_any_more_is_not_said_to_be_used(
    served: Served, upstream: Upstream
) -> None:
    served.add_server("spare", keyed_entry(upstream.url), CANARY)
    made = served.invite()
    person = SigningLaptop.of_person(served.url, made["invite"])
    spare = {"person": made["person"], "servers": {"spare": {"tools": ["get_*"]}}, "expires_at": 0}
    served.administrator.administer("POST", "/v1/admin/grants", spare)
    (other,) = person.claimed()
    assert changed(person, "add", MINE)[0]["refusal"] is None
    served.change(made["grant"], "revoke")
    (key,) = wire.decode(wire.PersonalKeys, other.send("GET", wire.PATH_KEYS).json).keys
    assert key.refusal is not None
    assert key.refusal.code == "key.server"


def key_in(headers: Mapping[str, str]) -> str:
    (value,) = [value for name, value in headers.items() if name.lower() == "authorization"]
    return value.removeprefix("Bearer ")


def administer(served: Served, method: str, path: str, form: Any = None) -> Any:
    return served.administrator.administer(method, f"/v1/admin/{path}", form)


def server_of_its_own(served: Served, upstream: Upstream, name: str, *, key: str = CANARY, more: str = "") -> str:
    entry = keyed_entry(upstream.url).replace("[key]", f"[key]\n{more}")
    served.add_server(name, entry, key)
    return name


# --- what nobody else can do ------------------------------------------------------------------------------------------


def test_another_persons_grant_never_carries_it(served: Served, upstream: Upstream) -> None:
    alice, _ = owner(served)
    bob, _ = owner(served)
    changed(alice, "add", MINE)
    assert carried(alice, upstream) == MINE
    assert carried(bob, upstream) == CANARY
    assert bob.send("GET", wire.PATH_KEYS).json["keys"] == []
    assert change(bob, "rotate", NEW).code == "key.unknown"
    assert carried(alice, upstream) == MINE


def test_a_device_signature_alone_gives_and_changes_no_key(served: Served, upstream: Upstream) -> None:
    alice, _ = owner(served)
    agent = without_presence(alice)
    assert change(agent, "add", MINE).code == "presence.required"
    changed(alice, "add", MINE)
    for verb, key in (("rotate", NEW), ("offer", ""), ("withdraw", ""), ("confirm", ""), ("remove", "")):
        assert change(agent, verb, key).code == "presence.required"
    (told,) = agent.send("GET", wire.PATH_KEYS).json["keys"]
    assert (told["version"], told["offered_at"]) == (1, 0)
    assert carried(agent, upstream) == MINE, "but using it is what an agent is there for"


def test_an_entry_that_an_administrator_changes_afterwards_gets_no_personal_key(
    served: Served, upstream: Upstream
) -> None:
    name = server_of_its_own(served, upstream, "changing")
    alice, _ = owner(served, name)
    bob, _ = owner(served, name)
    changed(alice, "add", MINE, name)
    assert carried(alice, upstream, name) == MINE
    entry = keyed_entry(upstream.url)
    for moved in (
        entry.replace('"Bearer {key}"', '"Bearer x-{key}"'),
        entry.replace('header = "Authorization"\nformat = "Bearer {key}"', 'query = "key"'),
        entry.replace(f'hosts = ["{upstream.url}"]', f'hosts = ["{upstream.url}", "https://eve.example"]'),
    ):
        assert moved != entry
        administer(served, "PUT", f"servers/{name}", {"entry": moved})
        before = len(upstream.seen)
        assert carried(alice, upstream, name) == "key.moved"
        assert len(upstream.seen) == before, "nor does it fall back to the shared key"
        (told,) = alice.send("GET", wire.PATH_KEYS).json["keys"]
        assert told["refusal"]["code"] == "key.moved"
        assert ("eve.example" in told["goes_to"]) == ("eve.example" in moved)
    assert carried(bob, upstream, name) == CANARY
    administer(served, "PUT", f"servers/{name}", {"entry": entry.replace("A keyed", "Another keyed")})
    assert carried(alice, upstream, name) == MINE, "where the key goes is as it was"


def test_its_owner_confirms_where_it_goes_now(served: Served, upstream: Upstream) -> None:
    name = server_of_its_own(served, upstream, "confirmed")
    alice, _ = owner(served, name)
    changed(alice, "add", MINE, name)
    more = f'hosts = ["{upstream.url}", "https://more.example"]'
    administer(
        served,
        "PUT",
        f"servers/{name}",
        {"entry": keyed_entry(upstream.url).replace(f'hosts = ["{upstream.url}"]', more)},
    )
    assert carried(alice, upstream, name) == "key.moved"
    assert administer(served, "GET", f"servers/{name}")["personal_keys"][0]["moved"] is True
    (told,) = changed(alice, "confirm", server=name)
    assert administer(served, "GET", f"servers/{name}")["personal_keys"][0]["moved"] is False
    assert told.get("refusal") is None
    assert carried(alice, upstream, name) == MINE


def test_what_its_owner_has_not_seen_is_not_confirmed_and_gets_no_key(served: Served, upstream: Upstream) -> None:
    """An administrator who changes the entry between the question and the answer."""
    name = server_of_its_own(served, upstream, "switched")
    alice, _ = owner(served, name)
    place = seen(alice, name)
    assert place.goes_to == f"{upstream.url} (header Authorization)"
    entry = keyed_entry(upstream.url)
    moved = entry.replace(f'hosts = ["{upstream.url}"]', f'hosts = ["{upstream.url}", "https://eve.example"]')
    administer(served, "PUT", f"servers/{name}", {"entry": moved})

    def answer(verb: str, key: str, binding: str) -> str:
        message = wire.join(wire.encode(wire.KeyChange(name, verb, binding)), key.encode())
        came = alice.send("POST", wire.PATH_KEYS, message)
        return came.code if came.status != 200 else ""

    assert answer("add", MINE, place.binding) == "key.moved"
    assert alice.send("GET", wire.PATH_KEYS).json["keys"] == []
    changed(alice, "add", MINE, name)
    administer(served, "PUT", f"servers/{name}", {"entry": entry})
    assert carried(alice, upstream, name) == "key.moved"
    assert answer("confirm", "", "of some other place") == "key.moved"
    assert answer("confirm", "", "") == "key.binding"
    assert carried(alice, upstream, name) == "key.moved"
    assert answer("confirm", "", place.binding) == ""
    assert carried(alice, upstream, name) == MINE


def test_a_server_removed_and_added_again_with_other_hosts_gets_no_personal_key(
    served: Served, upstream: Upstream
) -> None:
    name = server_of_its_own(served, upstream, "again")
    alice, _ = owner(served, name)
    changed(alice, "add", MINE, name)
    administer(served, "DELETE", f"servers/{name}")
    entry = keyed_entry(upstream.url).replace(
        f'hosts = ["{upstream.url}"]', f'hosts = ["{upstream.url}", "https://x.example"]'
    )
    served.add_server(name, entry, CANARY)
    assert carried(alice, upstream, name) == "key.moved"


def test_a_device_that_an_administrator_enrols_in_the_owners_name_carries_no_personal_key(
    served: Served, upstream: Upstream
) -> None:
    alice, name = owner(served)
    changed(alice, "add", MINE)
    rogue = SigningLaptop(served.url)
    made = administer(served, "POST", f"people/{name}/invite")
    assert rogue.enrol(made["invite"]).code == "presence.required"
    # An automation's invite asks for nobody's passphrase: a device key in the owner's name, which picks up a grant.
    done = command(
        "percall-broker", "invite", name, "--automation", "--may", "grants", "--json", environment=served.environment
    )
    automation = SigningLaptop.enrolled(served.url, json.loads(done.stdout)["invite"])
    assert change(automation, "add", NEW).code == "automation.presence"
    administer(served, "POST", "grants", {"person": name, "servers": {"keyed": {"tools": ["get_*"]}}})
    (picked_up,) = automation.claimed()
    assert carried(picked_up, upstream) == "key.device"
    assert change(picked_up, "confirm").code == "presence.required"
    assert carried(alice, upstream) == MINE


def test_a_further_agents_key_carries_it_once_its_owner_says_so(served: Served, upstream: Upstream) -> None:
    alice, name = owner(served)
    changed(alice, "add", MINE)
    administer(
        served, "POST", "grants", {"person": name, "servers": {"keyed": {"tools": ["get_*"]}}, "agent": "cursor"}
    )
    cursor = SigningLaptop(served.url, presence=alice.presence)
    answer = alice.claim("cursor", key=cursor.key)
    assert answer.status == 200, answer.body
    (cursor.token,) = [one["token"] for one in answer.json["enrolled"]]
    assert carried(without_presence(cursor), upstream) == "key.device"
    changed(cursor, "confirm")
    assert carried(without_presence(cursor), upstream) == MINE


def test_automations_have_no_keys_and_use_none(served: Served) -> None:
    automation = SigningLaptop.enrolled(served.url, automation_invite(served.environment))
    assert change(automation, "add", MINE).code == "automation.presence"


def test_a_key_is_given_only_for_a_server_that_a_grant_names(served: Served) -> None:
    alice, _ = owner(served)
    assert change(alice, "add", MINE, "shared").code == "key.server"
    assert change(alice, "add", MINE, "no-such-server").code == "key.server"
    assert change(alice, "add").code == "key.secret"
    assert change(alice, "offer", MINE).code == "key.secret"
    assert change(alice, "add", "short").code == "secret.length"
    assert change(alice, "add", "two lines of\na key that is long").code == "secret.characters"
    assert change(alice, "publish").code == "key.unknown"


# --- its life ---------------------------------------------------------------------------------------------------------


def test_nothing_else_is_done_with_a_key_than_what_there_is_to_do(served: Served) -> None:
    person, _ = owner(served)
    for verb in ("rotate", "confirm", "offer", "withdraw", "remove", "steal"):
        assert change(person, verb, MINE if verb == "rotate" else "").code == "key.unknown"
    changed(person, "add", MINE)
    assert change(person, "add", NEW).code == "key.exists"
    assert change(person, "steal").code == "key.verb"
    assert [row["version"] for row in changed(person, "offer")] == [1]


def test_a_rotation_fails_no_call_and_its_version_is_recorded(served: Served, upstream: Upstream) -> None:
    alice, name = owner(served)
    changed(alice, "add", MINE)
    over, seen = threading.Event(), []

    def work() -> None:
        laptop = dataclasses.replace(without_presence(alice))
        while not over.is_set():
            seen.append(carried(laptop, upstream))

    working = [threading.Thread(target=work) for _ in range(2)]
    for thread in working:
        thread.start()
    keys = [f"{NEW}{number}" for number in range(4)]
    versions = [changed(alice, "rotate", key)[0]["version"] for key in keys]
    over.set()
    for thread in working:
        thread.join()
    assert set(seen) <= {MINE, *keys}, set(seen)
    assert versions == [2, 3, 4, 5]
    assert carried(alice, upstream) == keys[-1]
    newest = max(alice.log(), key=lambda row: row["time"])["call"]
    assert administer(served, "GET", f"calls?server=keyed&secret_owner={name}&secret_version=5")[0]["call"] == newest


def test_a_key_that_is_removed_is_used_no_more_and_nothing_of_it_is_left(served: Served, upstream: Upstream) -> None:
    alice, _ = owner(served)
    changed(alice, "add", MINE)
    window = opened(alice)
    assert alice.request("keyed", f"{upstream.url}/items/1", window).status == 200
    assert changed(alice, "remove") == []
    assert alice.request("keyed", f"{upstream.url}/last", wire.Window(window.call)).status == 200
    assert key_in(upstream.seen[-1].headers) == CANARY, "the next request of an open window"
    assert change(alice, "remove").code == "key.unknown"
    (told,) = changed(alice, "add", NEW)
    assert told["version"] == 2, "a version is never given twice"
    assert carried(alice, upstream) == NEW


def test_what_is_under_way_with_a_key_ends_when_the_key_is_removed_and_not_when_it_is_rotated(
    served: Served, upstream: Upstream
) -> None:
    alice, _ = owner(served)
    bob, _ = served.enrol()
    changed(alice, "add", CANARY)  # the upstream streams to this one alone
    url = f"{upstream.url}/stream"
    with (
        alice.streaming("keyed", url, opened(alice)) as answer,
        bob.streaming("keyed", url, opened(bob)) as others,
    ):
        changed(alice, "rotate", NEW)
        for _ in range(3):
            assert answer.readline()
        changed(alice, "remove")
        with contextlib.suppress(OSError, http.client.HTTPException):
            while answer.read1(65536):
                pass
        for _ in range(3):
            assert others.readline(), "a stream with the shared key goes on"


@pytest.mark.parametrize("verb", ["suspend", "revoke"])
def test_a_grant_that_does_not_stand_reads_nothing_of_the_person_s_keys(served: Served, verb: str) -> None:
    made = served.invite("keyed")
    alice = SigningLaptop.of_person(served.url, made["invite"])
    changed(alice, "add", MINE)
    served.change(made["grant"], verb)
    assert alice.send("GET", wire.PATH_KEYS).code == {"suspend": "grant.suspended", "revoke": "grant.revoked"}[verb]


def test_who_is_removed_leaves_no_key_to_whoever_has_the_name_next(served: Served, upstream: Upstream) -> None:
    alice, name = owner(served)
    changed(alice, "add", MINE)
    assert administer(served, "POST", f"people/{name}/remove")["ended"]["keys"] == 1
    form = {"person": name, "servers": {"keyed": {"tools": ["get_*"]}}}
    made = administer(served, "POST", "grants", form)
    another = SigningLaptop.of_person(served.url, made["invite"])
    assert another.send("GET", wire.PATH_KEYS).json["keys"] == []
    assert carried(another, upstream) == CANARY


def test_an_entry_without_a_shared_key_refuses_until_somebody_gives_theirs(served: Served, upstream: Upstream) -> None:
    name = server_of_its_own(served, upstream, "unshared", key="")
    alice, _ = owner(served, name)
    bob, _ = owner(served, name)
    assert carried(alice, upstream, name) == "key.missing"
    session = wire.decode(wire.Session, alice.send("GET", wire.PATH_SESSION).json)
    (granted,) = session.servers
    assert (granted.refusal, granted.key) == (None, "")
    assert granted.key_refusal is not None
    assert f"percall key add {name}" in granted.key_refusal.next_step
    changed(alice, "add", MINE, name)
    assert carried(alice, upstream, name) == MINE
    assert carried(bob, upstream, name) == "key.missing"
    administer(served, "POST", f"servers/{name}/key", {"secret": CANARY})
    assert carried(bob, upstream, name) == CANARY
    assert carried(alice, upstream, name) == MINE


def test_an_entry_says_whose_keys_it_allows(served: Served, upstream: Upstream) -> None:
    name = server_of_its_own(served, upstream, "own-only", key="", more='owner = "personal"')
    alice, _ = owner(served, name)
    refused = served.administrator.send(
        "POST", f"/v1/admin/servers/{name}/key", b'{"secret": "a shared key of some length"}'
    )
    assert refused.code == "server.key"
    assert seen(alice, name).binding != "nowhere"
    changed(alice, "add", MINE, name)
    assert carried(alice, upstream, name) == MINE
    shared = keyed_entry(upstream.url).replace("[key]", '[key]\nowner = "shared"')
    administer(served, "PUT", f"servers/{name}", {"entry": shared})
    assert carried(alice, upstream, name) == "key.missing"
    administer(served, "POST", f"servers/{name}/key", {"secret": CANARY})
    assert carried(alice, upstream, name) == CANARY
    assert change(alice, "rotate", NEW, name).code == "key.owner"
    assert seen(alice, name).binding == "nowhere"


def test_a_server_that_is_removed_takes_no_key_any_more(served: Served, upstream: Upstream) -> None:
    name = server_of_its_own(served, upstream, "short-lived")
    alice, _ = owner(served, name)
    changed(alice, "add", MINE, name)
    administer(served, "DELETE", f"servers/{name}")
    assert seen(alice, name).binding == "nowhere"
    assert change(alice, "rotate", NEW, name).code == "key.server"


# --- owner and administrator together ---------------------------------------------------------------------------------


def test_a_key_becomes_shared_when_its_owner_offers_it_and_an_administrator_accepts(
    served: Served, upstream: Upstream
) -> None:
    name = server_of_its_own(served, upstream, "offered")
    alice, person = owner(served, name)
    bob, _ = owner(served, name)
    changed(alice, "add", MINE, name)

    def accept() -> Answer:
        form = json.dumps({"person": person}).encode()
        return served.administrator.send("POST", f"/v1/admin/servers/{name}/accept-key", form)

    assert accept().code == "key.offer", "an administrator alone cannot"
    changed(alice, "offer", server=name)
    changed(alice, "withdraw", server=name)
    assert accept().code == "key.offer"
    changed(alice, "offer", server=name)
    changed(alice, "rotate", NEW, name)
    assert accept().code == "key.offer", "what was offered was the old one"
    assert carried(bob, upstream, name) == CANARY
    changed(alice, "offer", server=name)
    assert accept().json["secret_version"] == 2
    assert accept().code == "key.offer"
    assert carried(bob, upstream, name) == carried(alice, upstream, name) == NEW
    assert alice.send("GET", wire.PATH_KEYS).json["keys"] == []
    actions = [row["action"] for row in administer(served, "GET", "changes") if row["server"] == name]
    assert actions[:2] == ["server.accept_key", "key.open"], "that it was opened is on record"


def test_copies_of_one_key_are_found_and_never_shown(served: Served, upstream: Upstream) -> None:
    one = server_of_its_own(served, upstream, "copy-one", key=f"{CANARY}copy")
    two = server_of_its_own(served, upstream, "copy-two", key=f"{CANARY}other")
    alice, person = owner(served, two)
    changed(alice, "add", f"{CANARY}copy", two)
    answer = served.administrator.send("GET", "/v1/admin/keys/copies")
    rows = [row for row in json.loads(answer.body) if row["server"] in {one, two}]
    assert [(row["server"], row["owner"]) for row in rows] == [(one, ""), (two, person)]
    assert rows[0]["key"] == rows[1]["key"] > 0
    assert CANARY.encode() not in answer.body
    changed(alice, "rotate", NEW + "unlike", two)
    assert not [row for row in administer(served, "GET", "keys/copies") if row["server"] in {one, two}]
    shown = administer(served, "GET", f"servers/{two}")["personal_keys"]
    assert [(row["person"], row["version"]) for row in shown] == [(person, 2)]
    assert [row["server"] for row in administer(served, "GET", f"people/{person}")["keys"]] == [two]


# --- the record -------------------------------------------------------------------------------------------------------


def test_every_use_of_a_version_of_a_key_is_found(served: Served, upstream: Upstream) -> None:
    more = f'\n[startup]\nrequests = ["GET {upstream.url}/start"]\n'
    served.add_server("leaky", keyed_entry(upstream.url) + more, CANARY)
    alice, person = owner(served, "leaky")
    bob, _ = owner(served, "leaky")
    assert carried(bob, upstream, "leaky") == CANARY
    assert bob.request("leaky", f"{upstream.url}/start").status == 200
    changed(alice, "add", MINE, "leaky")
    assert carried(alice, upstream, "leaky") == MINE
    administer(served, "POST", "servers/leaky/key", {"secret": f"{CANARY}2"})
    carried(bob, upstream, "leaky")

    def uses(query: str) -> list[tuple[str, bool]]:
        return [(row["person"], bool(row["call"])) for row in administer(served, "GET", f"calls?server=leaky&{query}")]

    (call_of_bob, start_of_bob) = (("person" + str(served.people), True), ("person" + str(served.people), False))
    assert uses("secret_version=1") == [start_of_bob, call_of_bob]
    assert uses("secret_version=2") == [call_of_bob]
    assert uses(f"secret_version=1&secret_owner={person}") == uses(f"secret_owner={person}") == [(person, True)]
    (row,) = administer(served, "GET", f"calls?secret_owner={person}")
    story = administer(served, "GET", f"calls/{row['call']}")["entries"]
    (made,) = [entry for entry in story if entry["kind"] == "request"]
    assert (made["secret_owner"], made["secret_version"]) == (person, 1)


# --- remote servers ---------------------------------------------------------------------------------------------------


def test_a_remote_server_gets_the_persons_own_key_with_every_message(relayed: Served, remote: Remote) -> None:
    alice, person = owner(relayed, "remote")
    assert alice.relay("remote", request("tools/list")).status == 200
    assert key_in(remote.seen[-1].headers) == CANARY
    changed(alice, "add", MINE, "remote")
    alice.relay("remote", request("tools/list"))
    assert key_in(remote.seen[-1].headers) == MINE
    alice.relay("remote", call("get_item"))
    assert key_in(remote.seen[-1].headers) == MINE
    settled(alice, "failed")  # the remote server knows the shared key alone
    uses = administer(relayed, "GET", f"calls?server=remote&secret_owner={person}")
    assert [(row["tool"], bool(row["call"])) for row in uses] == [("get_item", True), ("tools/list", False)]
    rogue = without_presence(alice)
    entry = administer(relayed, "GET", "servers/remote")
    assert entry["personal_keys"][0]["person"] == person
    changed(alice, "remove", server="remote")
    rogue.relay("remote", call("get_item"))
    assert key_in(remote.seen[-1].headers) == CANARY


@pytest.mark.parametrize("moved", ["url", "slot"])
def test_a_remote_server_that_moved_gets_no_personal_key(relayed: Served, remote: Remote, moved: str) -> None:
    name = f"moving-{moved}"
    text = remote_entry(remote.url)
    relayed.add_server(name, text, CANARY)
    alice, _ = owner(relayed, name)
    changed(alice, "add", MINE, name)
    other = (
        text.replace(remote.url, f"{remote.url}/else") if moved == "url" else text.replace("Bearer {key}", "X {key}")
    )
    assert other != text
    administer(relayed, "PUT", f"servers/{name}", {"entry": other})
    before = len(remote.seen)
    assert refusal_code(alice.relay(name, call("get_item"))) == "key.moved"
    assert alice.relay(name, request("tools/list")).json["error"]["data"]["code"] == "key.moved"
    assert len(remote.seen) == before
