"""What a change was decided on must hold in the very transaction that makes it; else nothing of it is made."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from harness.signing import SigningLaptop, presence_signer
from integration import test_approvals as approvals
from percall import wire

if TYPE_CHECKING:
    from integration.conftest import Served

REVOKED = "UPDATE grants SET state = 'revoked' WHERE id = '{}'"
TAKEN = "UPDATE grants SET device = (SELECT max(device) FROM grants) WHERE id = '{}'"
OTHER_KEY = "UPDATE presence_keys SET public_key = 'another' WHERE person = 'person{}'"
REMOVED = "UPDATE device_keys SET state = 'removed' WHERE person = 'person{}'"
LEFT = "DELETE FROM group_members WHERE person = 'person{}'"


@pytest.fixture
def person(served: Served) -> SigningLaptop:
    """Somebody with a passphrase, who is in a group."""
    invite = served.invite()["invite"]
    name = f"person{served.people}"
    laptop = SigningLaptop.of_person(served.url, invite)
    served.person.administer("POST", "/v1/admin/groups/leads/join", {"people": [name]})
    return laptop


@pytest.fixture(scope="module")
def asking(served: Served) -> Served:
    """The broker under policies that ask a group."""
    form = {"files": {"rules.cedar": approvals.RULES}, "message": "", "expected": -1}
    served.administrator.administer("POST", "/v1/admin/policies", form)
    return served


def test_an_invite_is_used_for_a_grant_that_stands_still(served: Served) -> None:
    made = served.invite()
    laptop = SigningLaptop(served.url)
    for what in (REVOKED, TAKEN):
        with served.meanwhile(what.format(made["grant"])):
            assert laptop.enrol(made["invite"]).code == "invite.changing", what
    with served.meanwhile("UPDATE invites SET used_at = 1 WHERE used_at IS NULL"):
        assert laptop.enrol(made["invite"]).status == 409
    assert laptop.enrol(made["invite"]).status == 200, "and is unspent until then"


def test_a_device_is_vouched_for_by_a_passphrase_that_is_the_persons_still(
    served: Served, person: SigningLaptop
) -> None:
    name = f"person{served.people}"
    invite = served.administrator.administer("POST", f"/v1/admin/people/{name}/invite")["invite"]
    further = SigningLaptop(served.url, presence=person.presence)
    with served.meanwhile(OTHER_KEY.format(served.people)):
        assert further.enrol(invite).code == "invite.changing"
    assert further.enrol(invite).status == 200


def test_what_waits_is_picked_up_by_a_key_that_is_known_still(served: Served, person: SigningLaptop) -> None:
    form = {"person": f"person{served.people}", "servers": {"keyed": {"tools": ["get_*"]}}}
    grant = served.administrator.administer("POST", "/v1/admin/grants", form)["grant"]
    for what in (REMOVED.format(served.people), REVOKED.format(grant)):
        with served.meanwhile(what):
            assert person.claim().code == "claim.changing", what
    assert len(person.claimed()) == 1


def test_a_passphrase_is_changed_by_the_one_that_is_the_persons_still(served: Served, person: SigningLaptop) -> None:
    new = presence_signer("another passphrase")
    key = wire.dump(wire.encode(new.key))
    with served.meanwhile(OTHER_KEY.format(served.people)):
        assert person.send("PUT", wire.PATH_PRESENCE, key).code == "presence.changed"
    assert person.send("PUT", wire.PATH_PRESENCE, key).status == 200
    assert dataclasses.replace(person, presence=new).send("PUT", wire.PATH_PRESENCE, key).status == 200


def test_a_key_is_changed_with_the_passphrase_and_the_key_that_there_are_still(
    served: Served, person: SigningLaptop
) -> None:
    message = wire.join(wire.encode(wire.KeyChange("keyed", "add")), b"test_aKeyOfTheirOwnThatIsLongEnough")
    with served.meanwhile(OTHER_KEY.format(served.people)):
        assert person.send("POST", wire.PATH_KEYS, message).code == "key.changing"
    assert person.send("GET", wire.PATH_KEYS).json["keys"] == []
    assert person.send("POST", wire.PATH_KEYS, message).status == 200
    withdrawn = "UPDATE personal_keys SET state = 'removed' WHERE person = 'person{}'"
    for verb, more in (("rotate", b"test_anotherKeyThatIsLongEnough"), ("offer", b""), ("remove", b"")):
        message = wire.join(wire.encode(wire.KeyChange("keyed", verb)), more)
        with served.meanwhile(withdrawn.format(served.people)):
            assert person.send("POST", wire.PATH_KEYS, message).code == "key.changing"


def test_a_question_is_answered_by_somebody_who_may_still(asking: Served, person: SigningLaptop) -> None:
    left = LEFT.format(asking.people)
    waiting = approvals.asked(asking.enrol(tools=["create_*"])[0], name="a")["id"]
    with asking.meanwhile(left):
        assert approvals.answered(person, waiting).code == "approval.changing"
    assert approvals.answered(person, waiting, "never").status == 200
    with asking.meanwhile(left):
        assert person.send("POST", f"{wire.PATH_INBOX}/{waiting}/lift").status == 409
    assert person.send("POST", f"{wire.PATH_INBOX}/{waiting}/lift").status == 200


@pytest.mark.parametrize(
    ("answer", "ended"),
    [
        ({}, "UPDATE approvals SET state = 'ended' WHERE id = '{}'"),
        ({"scope": "shape", "seconds": 600}, "UPDATE lasting_answers SET state = 'lifted' WHERE id = '{}'"),
    ],
    ids=["once", "for a while"],
)
def test_a_call_that_was_allowed_is_recorded_while_that_holds_still(
    asking: Served, person: SigningLaptop, answer: dict[str, Any], ended: str
) -> None:
    laptop, _ = asking.enrol(tools=["create_*"])
    waiting = approvals.asked(laptop, name="a")["id"]
    approvals.allow(person, waiting, **answer)
    if answer:
        assert approvals.decision(laptop, name="a") == "permit"
    asked = {"name": "create_item", "arguments": {"name": "a"}}
    before = len(laptop.log())
    with asking.meanwhile(ended.format(waiting), on="INSERT ON log"):
        assert laptop.ask("keyed", "tools/call", asked).status == 401
    assert len(laptop.log()) == before
    assert approvals.decision(laptop, name="a") == "permit"
