"""The broker at a glance, and the ends of upstream keys, on both engines."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from harness.processes import command, keyed_entry
from harness.receiver import Receiver
from harness.signing import SigningLaptop
from harness.upstream import CANARY, Upstream
from integration.conftest import Served
from percall import __version__, wire
from percall_broker.store import schema

if TYPE_CHECKING:
    from pathlib import Path

DAY = 86400


def status(served: Served) -> dict[str, Any]:
    return dict(served.administrator.administer("GET", "/v1/admin/status"))


def test_the_status_counts_what_stands_and_names_what_is_stopped(served: Served, tmp_path: Path) -> None:
    before = status(served)
    assert before["version"] == __version__
    assert before["problems"] == {}
    assert before["store"] == ("postgresql" if served.database else "sqlite")
    assert before["schema"] == schema.known()[-1].number
    assert [row["url"] for row in before["replicas"]] == [served.url]
    assert (before["key_source"], before["key_source_problem"]) == ("file", "")
    assert len(before["key_encryption_keys"]) == 1
    assert before["automations"][0]["name"] == "admin"
    laptop, grant = served.enrol(expires_at=int(time.time()) + 3 * DAY)
    assert laptop.call("keyed", "get_item")["decision"] == "permit"
    _, over = served.enrol()
    served.change(over, "revoke")
    served.administrator.administer("POST", "/v1/admin/freezes", {"kind": "person", "name": f"person{served.people}"})
    failed = command(
        "percall-broker", "backup", "create", str(tmp_path / "no" / "a"), environment=served.environment, check=False
    )
    assert failed.returncode == 1
    assert status(served)["last_backup_at"] == before["last_backup_at"], "none came about"
    command("percall-broker", "backup", "create", str(tmp_path / "a.backup"), environment=served.environment)
    after = status(served)
    grown = {name: after[name] - before[name] for name in ("people", "devices", "grants", "servers", "open_calls")}
    assert grown == {"people": 2, "devices": 2, "grants": 1, "servers": 0, "open_calls": 1}
    assert [row["id"] for row in after["expiring_grants"]] == [grant]
    assert [(row["kind"], row["name"]) for row in after["freezes"]] == [("person", f"person{served.people}")]
    assert time.time() - after["last_backup_at"] < 60
    served.administrator.administer(
        "POST", "/v1/admin/freezes/lift", {"kind": "person", "name": f"person{served.people}"}
    )


def test_the_status_is_for_administrators_and_shows_no_key(served: Served) -> None:
    laptop, _ = served.enrol()
    assert laptop.send("GET", "/v1/admin/status").code == "grant.administrator"
    assert CANARY not in str(status(served))


def test_an_upstream_key_that_ends_soon_is_shown_and_told_once(tmp_path: Path, upstream: Upstream) -> None:
    ends = int(time.time()) + 3 * DAY
    with Served(tmp_path) as own, Receiver() as receiver:
        made = own.administrator.administer("POST", "/v1/admin/webhooks", {"url": receiver.url})
        receiver.key = made["key"]
        for name, expires_at in (("soon", ends), ("late", ends + 90 * DAY), ("unsaid", 0)):
            form = {"name": name, "entry": keyed_entry(upstream.url), "secret": CANARY, "expires_at": expires_at}
            own.administrator.administer("POST", "/v1/admin/servers", form)
        assert [row["server"] for row in status(own)["expiring_keys"]] == ["soon"]
        for _ in range(2):
            own.stop()
            own.start()
            receiver.next("key.expiring", server="soon")
        told = receiver.next("key.expiring", server="soon")["data"]
        assert (told["person"], told["version"], told["expires_at"]) == ("", 1, ends)
        # A key that is rotated has an end of its own, or none.
        own.administrator.administer("POST", "/v1/admin/servers/soon/key", {"secret": CANARY})
        assert status(own)["expiring_keys"] == []
        own.administrator.administer("PUT", "/v1/admin/servers/late/key/end", {"expires_at": ends})
        assert [row["server"] for row in status(own)["expiring_keys"]] == ["late"]
        own.administrator.administer("PUT", "/v1/admin/servers/late/key/end", {"expires_at": 0})
        # Nobody said when it ends, and the organisation bounds its age.
        own.stop()
        own.environment["PERCALL_BROKER_KEY_DAYS"] = "5"
        own.start()
        receiver.next("key.expiring", server="unsaid")
        assert {row["server"] for row in status(own)["expiring_keys"]} == {"soon", "late", "unsaid"}
        _, last = own.enrol("unsaid")
        receiver.next("device.enrolled", grant=last)
        events = [event["data"]["server"] for event in receiver.events if event["type"] == "key.expiring"]
        assert sorted(events) == ["late", "soon", "soon", "unsaid"]


@pytest.mark.parametrize("ends", [1, -1, 2**41, "tomorrow"])
def test_an_end_that_cannot_be_is_refused(served: Served, ends: object) -> None:
    answer = served.administrator.send(
        "PUT", "/v1/admin/servers/keyed/key/end", f'{{"expires_at":{ends!r}}}'.replace("'", '"').encode()
    )
    assert answer.code in {"secret.expired", "request.form"}
    assert "expiring_keys" in status(served)


def test_a_personal_key_that_grows_old_is_told_with_its_owner(tmp_path: Path, upstream: Upstream) -> None:
    with Served(tmp_path, settings={"key_days": "5"}) as own, Receiver() as receiver:
        receiver.key = own.administrator.administer("POST", "/v1/admin/webhooks", {"url": receiver.url})["key"]
        own.add_server("keyed", keyed_entry(upstream.url), CANARY)
        made = own.invite("keyed")
        alice = SigningLaptop.of_person(own.url, made["invite"])
        message = wire.join(wire.encode(wire.KeyChange("keyed", "add")), b"test_a-key-of-alices-own")
        assert alice.send("POST", wire.PATH_KEYS, message).status == 200
        told = {(row["server"], row["person"]) for row in status(own)["expiring_keys"]}
        assert told == {("keyed", ""), ("keyed", made["person"])}
        own.stop()
        own.start()
        assert receiver.next("key.expiring", person=made["person"])["data"]["server"] == "keyed"
        receiver.next("key.expiring", person="")
        # Who is gone has no key that could end.
        own.administrator.administer("POST", f"/v1/admin/people/{made['person']}/remove")
        assert [row["person"] for row in status(own)["expiring_keys"]] == [""]


def test_what_no_route_answers_is_refused_with_a_code(served: Served) -> None:
    assert served.administrator.send("DELETE", "/v1/admin/status").code == "request.method"
    assert served.administrator.send("GET", "/v1/admin/nothing").code == "request.path"


def test_a_person_who_opens_the_brokers_url_is_told_where_the_console_is(served: Served) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(served.url)
    with caught.value as answer:
        assert json.load(answer)["error"]["next_step"] == "For people, the console is at /console/."
