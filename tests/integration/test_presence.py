"""Attacks on presence: what a device's signature, a captured one, an automation or an invite must not do."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI, Request

from harness.processes import automation_invite, keyed_entry
from harness.signing import Answer, SigningLaptop, presence_signer
from percall import wire
from percall.proof import DeviceKey, base64url, digest
from percall_broker.api import admin
from percall_broker.model.records import AREAS
from percall_broker.pipeline.administration import Administration
from percall_broker.stages.presence import MOST_WRONG

if TYPE_CHECKING:
    from integration.conftest import Served

UNUSED: Any = None
READINGS = {
    ("POST", "/v1/admin/calls/{call}/arguments"),
    ("POST", "/v1/admin/policies/explain"),
    ("POST", "/v1/admin/policies/replay"),
}
"""What changes nothing, save that some record that they were read: the exceptions."""


def nobody(_request: Request, _area: str = "") -> Any:
    """Who asks, of routes that are only looked at."""


def routes() -> set[tuple[str, str]]:
    """Every route of the administrator's door, by method and path: also those that somebody adds tomorrow."""
    subjects = Administration(**dict.fromkeys(Administration.__dataclass_fields__, UNUSED))
    application = FastAPI()
    application.include_router(admin.router(subjects, UNUSED, UNUSED, UNUSED, nobody, nobody))
    paths = application.openapi()["paths"]
    return {(method.upper(), path) for path, methods in paths.items() for method in methods}


CHANGING = sorted({(method, path) for method, path in routes() if method != "GET"} - READINGS)
SCOPE = {"keyed": {"tools": ["get_*"]}}


@pytest.fixture(scope="module")
def ada(served: Served) -> SigningLaptop:
    """An administrator who has a passphrase; `ada.presence` is as if she typed it each time."""
    return SigningLaptop.of_person(served.url, served.local_invite("ada"))


@pytest.fixture(scope="module")
def ordinary(served: Served) -> SigningLaptop:
    return served.enrol()[0]


def as_an_agent(person: SigningLaptop) -> SigningLaptop:
    """The same device's key and grant, without the passphrase."""
    return dataclasses.replace(person, presence=None)


def state(served: Served) -> str:
    """All that an administrator could have changed."""
    paths = ("grants", "servers", "changes")
    return json.dumps([served.administrator.administer("GET", f"/v1/admin/{path}") for path in paths])


def invite_for(laptop: SigningLaptop, person: str, **more: Any) -> Answer:
    return laptop.send("POST", "/v1/admin/grants", json.dumps({"person": person, "servers": SCOPE, **more}).encode())


def test_the_attack_below_knows_routes() -> None:
    assert len(CHANGING) >= 6


@pytest.mark.parametrize(("method", "path"), sorted(routes()))
def test_no_route_answers_somebody_who_administers_nothing(
    served: Served, ordinary: SigningLaptop, method: str, path: str
) -> None:
    """Whoever added it, and whatever it takes."""
    place = re.sub(r"\{\w+\}", "1", path)
    assert ordinary.send(method, place, b"" if method == "GET" else b"{}").code == "grant.administrator"
    assert SigningLaptop(served.url).exchange(method, place, b"", {"Percall-Wire": "1"}).code == "grant.missing"


@pytest.mark.parametrize(("method", "path"), CHANGING)
def test_a_device_signature_alone_changes_nothing_on_any_changing_route(
    served: Served, ada: SigningLaptop, method: str, path: str
) -> None:
    before = state(served)
    agent = as_an_agent(ada)
    for name in ("keyed", "g_none"):
        filled = re.sub(r"\{verb\}", "revoke", path)
        filled = re.sub(r"\{\w+\}", name, filled)
        for body in (b"{}", json.dumps({"person": "eve", "servers": SCOPE, "administrator": True}).encode()):
            answer = agent.send(method, filled, body)
            assert (answer.status, answer.code) == (403, "presence.required")
    assert state(served) == before


def test_an_administrator_without_a_passphrase_reads_and_changes_nothing(served: Served) -> None:
    laptop = SigningLaptop.enrolled(served.url, served.local_invite("headless"))
    assert laptop.send("GET", "/v1/admin/grants").status == 200
    answer = invite_for(laptop, "eve")
    assert (answer.status, answer.code) == (403, "presence.unset")


def test_a_person_who_is_there_changes_things(ada: SigningLaptop) -> None:
    made = invite_for(ada, "fay")
    assert made.status == 200
    assert ada.send("POST", f"/v1/admin/grants/{made.json['grant']}/revoke").json["state"] == "revoked"


def test_the_record_says_how_presence_was_proven(served: Served, ada: SigningLaptop) -> None:
    made = invite_for(ada, "gil").json["grant"]
    served.change(made, "suspend")  # by an automation
    rows = served.administrator.administer("GET", "/v1/admin/changes?limit=2")
    assert [(row["action"], row["presence"]) for row in rows] == [
        ("grant.suspended", "automation"),
        ("grant.create", "passphrase"),
    ]


def test_a_captured_presence_signature_serves_for_nothing_else(served: Served, ada: SigningLaptop) -> None:
    ada.send("GET", wire.PATH_SESSION)  # for a nonce
    path, body = "/v1/admin/grants", json.dumps({"person": "gus", "servers": SCOPE}).encode()
    _, captured = ada.signed("POST", path, body)
    agent = as_an_agent(ada)
    other_body = body.replace(b"gus", b"eve")

    def again(method: str, where: str, what: bytes) -> Answer:
        """The captured signature with a proof of the agent's own."""
        headers = agent.headers(method, where, what)
        return agent.exchange(method, where, what, {**headers, wire.HEADER_PRESENCE: captured[wire.HEADER_PRESENCE]})

    before = state(served)
    for method, where, what in (
        ("POST", path, body),  # another id
        ("POST", path, other_body),
        ("DELETE", "/v1/admin/servers/keyed", b""),
    ):
        assert again(method, where, what).code == "presence.wrong"
    assert agent.exchange("POST", path, other_body, captured).code == "proof.digest"
    elsewhere = dataclasses.replace(ada, url="http://other.example")
    jti, headers = ada.signed("POST", path, body)
    text = wire.presence_text("POST", elsewhere.url + path, digest(body), jti)
    assert ada.presence is not None
    headers[wire.HEADER_PRESENCE] = ada.presence.sign(text)
    assert ada.exchange("POST", path, body, headers).code == "presence.wrong"
    assert state(served) == before
    assert ada.exchange("POST", path, body, captured).status == 200, "which also forgives the wrong ones"
    assert ada.exchange("POST", path, body, captured).code == "proof.replayed"


def test_another_persons_presence_is_not_mine(served: Served, ada: SigningLaptop) -> None:
    bea = SigningLaptop.of_person(served.url, served.local_invite("bea"))
    before = state(served)
    assert invite_for(dataclasses.replace(ada, presence=bea.presence), "eve").code == "presence.wrong"
    assert state(served) == before
    assert invite_for(bea, "hal").status == 200


def test_two_presence_signatures_in_one_request_are_refused(ada: SigningLaptop) -> None:
    ada.send("GET", wire.PATH_SESSION)
    body = json.dumps({"person": "eve", "servers": SCOPE}).encode()
    connection = ada.connection()
    connection.putrequest("POST", "/v1/admin/grants")
    headers = ada.headers("POST", "/v1/admin/grants", body)
    for name, value in [*headers.items(), (wire.HEADER_PRESENCE, "x"), ("Content-Length", str(len(body)))]:
        connection.putheader(name, value)
    connection.endheaders(body)
    assert connection.getresponse().status == 400
    connection.close()


def test_a_change_carries_no_query_that_nobody_signed(ada: SigningLaptop) -> None:
    body = json.dumps({"person": "eve", "servers": SCOPE}).encode()
    assert ada.send("POST", "/v1/admin/grants?administrator=true", body).code == "request.query"


def test_guesses_are_counted(served: Served) -> None:
    cy = SigningLaptop.of_person(served.url, served.local_invite("cy"))
    guesser = dataclasses.replace(cy, presence=presence_signer("a guess"))
    codes = [invite_for(guesser, "eve").code for _ in range(MOST_WRONG + 1)]
    assert codes == ["presence.wrong"] * MOST_WRONG + ["presence.wait"]
    assert invite_for(cy, "eve").code == "presence.wait", "the right one is not looked at either: it would tell"


def test_no_agent_shuts_its_own_person_out_by_guessing(served: Served) -> None:
    """Else one that was talked into something keeps the only administrator from revoking it."""
    cy = SigningLaptop.of_person(served.url, served.local_invite("cyra"))
    made = cy.administer("POST", "/v1/admin/grants", {"person": "cyra", "servers": SCOPE, "agent": "cursor"})
    assert made["grant"]
    cursor = DeviceKey(os.urandom(32))
    (claimed,) = cy.claim("cursor", key=cursor).json["enrolled"]
    guesser = SigningLaptop(served.url, cursor, claimed["token"], presence=presence_signer("a guess"))
    key = wire.dump(wire.encode(presence_signer("mine now").key))
    codes = [guesser.send("PUT", wire.PATH_PRESENCE, key).code for _ in range(MOST_WRONG + 1)]
    assert codes == ["presence.wrong"] * MOST_WRONG + ["presence.wait"]
    assert cy.administer("POST", f"/v1/admin/grants/{made['grant']}/revoke")["state"] == "revoked"


def test_no_number_of_invites_makes_more_guesses(served: Served) -> None:
    """An automation makes as many as it likes, and so does whoever may sign in as somebody."""
    made = served.invite()
    SigningLaptop.of_person(served.url, made["invite"])
    people = SigningLaptop.enrolled(served.url, automation_invite(served.environment, may="people"))
    codes = []
    for _ in range(MOST_WRONG + 1):
        invite = people.administer("POST", f"/v1/admin/people/{made['person']}/invite")["invite"]
        codes.append(SigningLaptop(served.url, presence=presence_signer("a guess")).enrol(invite).code)
    assert codes == ["presence.wrong"] * MOST_WRONG + ["presence.wait"]


def test_a_device_signature_sets_and_changes_no_passphrase(served: Served, ada: SigningLaptop) -> None:
    new = wire.dump(wire.encode(presence_signer("another passphrase").key))
    assert as_an_agent(ada).send("PUT", wire.PATH_PRESENCE, new).code == "presence.required"
    guesser = dataclasses.replace(ada, presence=presence_signer("a guess"))
    assert guesser.send("PUT", wire.PATH_PRESENCE, new).code == "presence.wrong"
    nobody, _ = served.enrol()
    assert nobody.send("PUT", wire.PATH_PRESENCE, new).code == "presence.unset"
    assert invite_for(ada, "ike").status == 200


def test_a_passphrase_is_changed_by_who_knows_it_and_the_old_one_opens_nothing(served: Served) -> None:
    dee = SigningLaptop.of_person(served.url, served.local_invite("dee"))
    new = presence_signer("another passphrase")
    assert dee.send("PUT", wire.PATH_PRESENCE, wire.dump(wire.encode(new.key))).status == 200
    assert invite_for(dee, "eve").code == "presence.wrong"
    assert invite_for(dataclasses.replace(dee, presence=new), "jo").status == 200


def unsound(key: wire.PresenceKey, **changes: Any) -> wire.PresenceKey:
    stretch = {name: changes.pop(name) for name in list(changes) if name != "public_key"}
    return dataclasses.replace(key, stretch=dataclasses.replace(key.stretch, **stretch), **changes)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"public_key": base64url(bytes(32))}, "presence.unsound"),
        ({"public_key": base64url((1).to_bytes(32, "little"))}, "presence.unsound"),
        ({"public_key": "short"}, "presence.unsound"),
        ({"passes": 1}, "presence.stretch"),
        ({"memory_bytes": 8 * 1024 * 1024}, "presence.stretch"),
        ({"memory_bytes": 2**40}, "presence.stretch"),
        ({"salt": ""}, "presence.stretch"),
        ({"kind": "none"}, "presence.stretch"),
    ],
)
def test_an_unsound_or_cheap_presence_key_is_refused_and_the_invite_stays(
    served: Served, changes: dict[str, Any], code: str
) -> None:
    invite = served.invite()["invite"]
    laptop = SigningLaptop(served.url)
    assert laptop.enrol(invite, presence=unsound(presence_signer("x").key, **changes)).code == code
    assert laptop.enrol(invite).status == 200


# --- invites ----------------------------------------------------------------------------------------------------------


def test_an_invite_says_what_it_is_for_and_stays_unspent(served: Served, ada: SigningLaptop) -> None:
    def ask(invite: str) -> Answer:
        body = wire.dump(wire.encode(wire.InviteCode(invite)))
        return ada.exchange("POST", wire.PATH_INVITATION, body, {})

    assert ask("nonsense").code == "invite.unknown"
    made = invite_for(ada, "kim").json
    for _ in range(2):
        told = wire.decode(wire.Invitation, ask(made["invite"]).json)
        assert told == wire.Invitation("kim", administrator=False, may_set_presence=True)
    known = wire.decode(wire.Invitation, ask(served.local_invite("ada")).json)
    assert (known.administrator, known.may_set_presence) == (True, False)
    assert ada.presence is not None
    assert known.stretch == ada.presence.key.stretch
    automation = wire.decode(wire.Invitation, ask(automation_invite(served.environment)).json)
    assert (automation.administrator, automation.may_set_presence, automation.stretch) == (False, False, None)
    SigningLaptop.enrolled(served.url, made["invite"])
    assert ask(made["invite"]).code == "invite.used"


def test_an_invite_says_whose_agent_it_is_for_and_refuses_another_unspent(served: Served, ada: SigningLaptop) -> None:
    form = {"person": "ivy", "servers": {"keyed": {"tools": ["get_*"]}}, "agent": "claude-code"}
    invite = str(served.administrator.administer("POST", "/v1/admin/grants", form)["invite"])
    body = wire.dump(wire.encode(wire.InviteCode(invite)))
    told = wire.decode(wire.Invitation, ada.exchange("POST", wire.PATH_INVITATION, body, {}).json)
    assert told.agent == "claude-code"
    laptop = SigningLaptop(served.url)
    assert laptop.enrol(invite, agent="cursor").code == "invite.agent"
    assert laptop.enrol(invite, agent="claude-code").status == 200


def test_an_invite_in_the_name_of_a_person_with_a_passphrase_enrols_nothing_without_it(
    served: Served, ada: SigningLaptop
) -> None:
    lou = SigningLaptop.of_person(served.url, str(invite_for(ada, "lou").json["invite"]))
    invite = str(ada.administer("POST", "/v1/admin/people/lou/invite")["invite"])
    rogue = SigningLaptop(served.url)
    assert rogue.enrol(invite).code == "presence.required"
    rogue.presence = presence_signer("a guess")
    assert rogue.enrol(invite).code == "presence.wrong"
    rogue.presence = None
    assert rogue.enrol(invite, presence=presence_signer("mine").key).code == "presence.exists"
    further = SigningLaptop(served.url, presence=lou.presence)
    assert further.enrol(invite).status == 200


def test_an_ordinary_invite_sets_no_administrators_passphrase(served: Served, ada: SigningLaptop) -> None:
    SigningLaptop.enrolled(served.url, served.local_invite("max"))  # an administrator, without a passphrase
    invite = str(ada.administer("POST", "/v1/admin/people/max/invite")["invite"])
    laptop = SigningLaptop(served.url)
    assert laptop.enrol(invite, presence=presence_signer("mine").key).code == "presence.invite"
    assert laptop.enrol(invite).status == 200


# --- automations ------------------------------------------------------------------------------------------------------


def automation(served: Served, *may: str) -> SigningLaptop:
    return SigningLaptop.enrolled(served.url, automation_invite(served.environment, may=",".join(may)))


@pytest.fixture(scope="module")
def automations(served: Served) -> dict[str, SigningLaptop]:
    """One for each area, which may change that alone; and one for none."""
    return {area: automation(served, *filter(None, [area])) for area in ("", *AREAS)}


@pytest.mark.parametrize(("method", "path"), CHANGING)
def test_a_route_is_of_one_area_and_answers_no_automation_of_another(
    automations: dict[str, SigningLaptop], method: str, path: str
) -> None:
    filled = re.sub(r"\{\w+\}", "none", re.sub(r"\{verb\}", "revoke", path))
    answers = {area: laptop.send(method, filled, b"{}") for area, laptop in automations.items()}
    answered = [area for area, one in answers.items() if one.status == 200 or one.code != "automation.area"]
    assert answered in [[], *([area] for area in AREAS)]


def test_an_automation_changes_its_areas_alone(served: Served) -> None:
    only = automation(served, "servers")
    before = state(served)
    for method, path, form in (
        ("POST", "/v1/admin/grants", {"person": "eve", "servers": SCOPE}),
        ("POST", "/v1/admin/servers/keyed/key", {"secret": "a key of the automation"}),
    ):
        assert only.send(method, path, json.dumps(form).encode()).code == "automation.area"
    assert state(served) == before
    nothing = automation(served)
    assert nothing.send("DELETE", "/v1/admin/servers/none").code == "automation.area"
    assert nothing.send("GET", "/v1/admin/servers").status == 200
    assert only.send("DELETE", "/v1/admin/servers/none").code == "server.unknown"


def test_an_automation_sends_the_broker_to_its_own_machine_only_where_it_may(served: Served) -> None:
    local, public = "http://127.0.0.1:8200", "https://api.example.com"
    only, trusted = automation(served, "servers", "webhooks"), automation(served, "servers", "webhooks", "loopback")

    def asked(by: SigningLaptop, method: str, path: str, form: dict[str, Any]) -> str:
        answer = by.send(method, f"/v1/admin/{path}", json.dumps(form).encode())
        return "" if answer.status == HTTPStatus.OK else answer.code

    def add(by: SigningLaptop, name: str, entry: str, **connect: str) -> str:
        form = {"name": name, "entry": entry, "secret": "a key of the automation", "connect": connect}
        return asked(by, "POST", "servers", form)

    def update(entry: str, **connect: str) -> str:
        return asked(only, "PUT", "servers/named-local", {"entry": entry, "connect": connect})

    before = state(served)
    remote = f'[server]\ntitle = "Vault"\ndelivery = "relay"\nurl = "{local}/mcp"\n[[key.slot]]\nheader = "X-Key"\n'
    assert add(only, "vault", keyed_entry(local)) == "automation.loopback"
    assert add(only, "vault", keyed_entry(public), **{public: local}) == "automation.loopback", "through a stand-in"
    assert add(only, "vault", remote) == "automation.loopback"
    assert asked(only, "POST", "webhooks", {"url": f"{local}/v1/sys/seal"}) == "automation.loopback"
    assert state(served) == before

    assert add(only, "named-public", keyed_entry(public)) == ""
    assert add(trusted, "named-local", keyed_entry(local)) == ""
    assert update(keyed_entry(local, attribution="shared")) == "", "which names nothing new there"
    assert update(keyed_entry("http://127.0.0.1:8201")) == "automation.loopback"
    assert update(keyed_entry(public), **{public: local}) == "", "nor does this"
    assert asked(trusted, "POST", "webhooks", {"url": f"{local}/hook"}) == ""


def test_an_automation_makes_no_administrators_and_no_automations(served: Served, ada: SigningLaptop) -> None:
    every = automation(served, *AREAS)
    before = state(served)
    for more in (
        {"administrator": True},
        {"administrator": True, "servers": {}},
        {"automation": True, "servers": {}, "may": ["grants"]},
        {"automation": True, "servers": {}},
    ):
        assert invite_for(every, "eve", **more).code in {"automation.administrators", "grant.automation"}
    assert invite_for(every, "ada").code == "automation.administrators", "an invite for an administrator"
    assert state(served) == before
    grants = every.administer("GET", "/v1/admin/grants")
    max_grant = next(row["grant"] for row in grants if row["person"] == "bea" and row["administrator"])
    assert ada.send("POST", f"/v1/admin/grants/{max_grant}/suspend").status == 200
    assert every.send("POST", f"/v1/admin/grants/{max_grant}/resume").code == "automation.administrators"
    assert every.send("PUT", wire.PATH_PRESENCE, wire.dump(wire.encode(presence_signer("x").key))).code == (
        "automation.presence"
    )


def test_an_automations_invite_sets_no_passphrase_for_whoever_has_its_name(served: Served) -> None:
    laptop = SigningLaptop(served.url)
    invite = automation_invite(served.environment)
    assert laptop.enrol(invite, presence=presence_signer("mine").key).code == "presence.invite"


def test_an_automation_in_a_persons_name_is_enrolled_without_their_passphrase(
    ada: SigningLaptop,
) -> None:
    made = invite_for(ada, "ada", servers={}, automation=True, may=["grants"]).json
    body = wire.dump(wire.encode(wire.InviteCode(made["invite"])))
    told = wire.decode(wire.Invitation, ada.exchange("POST", wire.PATH_INVITATION, body, {}).json)
    assert (told.administrator, told.may_set_presence, told.stretch) == (False, False, None)
    own = SigningLaptop.enrolled(ada.url, made["invite"])
    assert own.send("PUT", wire.PATH_PRESENCE, wire.dump(wire.encode(presence_signer("x").key))).code == (
        "automation.presence"
    )


def test_areas_are_named_exactly(ada: SigningLaptop) -> None:
    assert invite_for(ada, "ci", servers={}, automation=True, may=["everything"]).code == "grant.areas"
    assert invite_for(ada, "ci", may=["grants"]).code == "grant.areas"
    assert invite_for(ada, "ci", automation=True).code == "grant.automation"
    made = invite_for(ada, "ci", servers={}, automation=True, may=["grants", "people"])
    row = ada.administer("GET", f"/v1/admin/grants/{made.json['grant']}")
    assert (row["automation"], row["may"]) == (True, ["grants", "people"])


def test_an_administrators_session_shows_every_automation_and_an_automations_itself(
    served: Served, ada: SigningLaptop
) -> None:
    session = wire.decode(wire.Session, ada.send("GET", wire.PATH_SESSION).json)
    assert wire.Automation("admin", AREAS) in session.automations
    assert session.stretch is not None
    automation_invite(served.environment, may="webhooks")
    session = wire.decode(wire.Session, ada.send("GET", wire.PATH_SESSION).json)
    assert wire.Automation("admin", ("webhooks",)) in session.automations, "also one that nobody has enrolled yet"
    only = automation(served, "servers")
    own = wire.decode(wire.Session, only.send("GET", wire.PATH_SESSION).json)
    assert (own.automation, own.automations, own.stretch) == (True, (wire.Automation("admin", ("servers",)),), None)
    ordinary, _ = served.enrol()
    assert wire.decode(wire.Session, ordinary.send("GET", wire.PATH_SESSION).json).automations == ()
