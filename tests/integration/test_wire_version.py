"""A shim that speaks another version of the wire: told which side to update, before anything of it is used up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.signing import SigningLaptop
from percall import wire
from percall.proof import make_enrolment_proof

if TYPE_CHECKING:
    from integration.conftest import Served


@pytest.mark.parametrize(
    ("spoken", "advice"), [(wire.VERSION + 1, "Update the broker."), (0, "Update percall on this machine.")]
)
def test_an_invite_is_not_spent_on_a_shim_that_is_not_served(served: Served, spoken: int, advice: str) -> None:
    invite = served.invite()["invite"]
    laptop = SigningLaptop(served.url)
    body = wire.dump(wire.encode(wire.Enrolment(invite, laptop.key.public_jwk(), "default", "a laptop")))
    _, proof = make_enrolment_proof(laptop.key, served.url + wire.PATH_ENROL, body)
    headers = {"DPoP": proof, wire.HEADER_VERSION: str(spoken)}
    refused = laptop.exchange("POST", wire.PATH_ENROL, body, headers)
    assert (refused.status, refused.code) == (400, "wire.version")
    assert refused.json["error"]["next_step"] == advice
    laptop = SigningLaptop.enrolled(served.url, invite)
    path = wire.PATH_SESSION
    refused = laptop.exchange("GET", path, b"", laptop.headers("GET", path, b"") | {"Percall-Wire": str(spoken)})
    assert (refused.status, refused.code) == (400, "wire.version")
