"""`percall-broker status` and the ends of keys, as an operator sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.upstream import CANARY

if TYPE_CHECKING:
    from harness.processes import Broker


def test_what_wants_attention_has_a_line_of_its_own(broker: Broker, person: str) -> None:
    calm = broker.administrator.administer("status").stdout
    assert "keys from file: " in calm
    assert "last backup: never" in calm
    assert "\n!" not in calm
    broker.enrol(person, "keyed", expires="2d")
    broker.administrator.administer(
        "server", "rotate-key", "keyed", "--secret-stdin", "--key-expires", "3d", stdin=CANARY
    )
    broker.administrator.administer("freeze", "--person", person, "--reason", "a test")
    told = broker.administrator.administer("status").stdout.splitlines()
    (frozen,) = [line for line in told if line.startswith("! frozen")]
    assert frozen.startswith(f"! frozen: person {person}, by ")
    assert frozen.endswith(": a test")
    assert any(line.startswith("! the key of keyed ends ") for line in told)
    assert any(line.startswith("! grant ") and person in line for line in told)
    assert "never" in broker.administrator.administer("server", "key-end", "keyed", "never").stdout
    assert broker.rows("status")[0]["expiring_keys"] == []
    assert broker.rows("server", "show", "keyed")[0]["secret_expires_at"] == 0
    (change,) = [row for row in broker.rows("log", "changes") if row["action"] == "server.key_end"]
    assert change["server"] == "keyed"
