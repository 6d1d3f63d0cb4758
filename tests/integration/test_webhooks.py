"""Webhooks: signed, at least once, in order, and of no use to whoever wants to flood or to hang."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from harness.processes import keyed_entry, wait_for
from harness.receiver import Receiver
from harness.signing import SigningLaptop
from harness.upstream import CANARY
from integration.conftest import Served
from percall import wire
from percall_broker.store import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.upstream import Upstream


@pytest.fixture
def receiver(served: Served) -> Iterator[Receiver]:
    with Receiver() as running:
        made = subscribe(served, running)
        yield running
        served.administrator.administer("DELETE", f"/v1/admin/webhooks/{made['webhook']}")


def subscribe(served: Served, receiver: Receiver) -> dict[str, Any]:
    made = dict(served.administrator.administer("POST", "/v1/admin/webhooks", {"url": receiver.url}))
    receiver.key = made["key"]
    return made


def webhook(served: Served, identifier: str) -> dict[str, Any]:
    rows = served.administrator.administer("GET", "/v1/admin/webhooks")
    return next(dict(row) for row in rows if row["webhook"] == identifier)


def test_a_new_device_is_told_signed_as_the_standard_says(served: Served, receiver: Receiver) -> None:
    _, grant = served.enrol()
    told = receiver.next("device.enrolled", grant=grant)
    assert told["data"]["person"] == f"person{served.people}"
    assert len(receiver.ids) == len(set(receiver.ids))


def test_a_refused_attack_is_told_once_and_by_whom(served: Served, upstream: Upstream, receiver: Receiver) -> None:
    laptop, grant = served.enrol()
    # A replay of a captured call.
    body = b'{"server":"keyed","client":"t","settle":[]}\n{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
    laptop.call("keyed", "get_item")
    headers = laptop.headers("POST", wire.PATH_CALLS, body)
    assert laptop.exchange("POST", wire.PATH_CALLS, body, headers).status == 200
    for _ in range(5):
        assert laptop.exchange("POST", wire.PATH_CALLS, body, headers).code == "proof.replayed"
    assert receiver.next("attack.refused", reason="proof.replayed", grant=grant)["data"]["times"] == 1
    # A request outside any window.
    assert laptop.request("keyed", f"{upstream.url}/items").code == "request.no_call"
    receiver.next("attack.refused", reason="request.no_call", grant=grant)
    # A grant's token without its device key.
    thief = SigningLaptop(laptop.url, token=laptop.token, nonce=laptop.nonce)
    assert thief.send("GET", wire.PATH_SESSION).code == "proof.device"
    receiver.next("attack.refused", reason="proof.device", grant=grant)
    # A frame that two readers could understand differently.
    malformed = b'{"server":"keyed","client":"t","settle":[]}\n{"jsonrpc":"2.0","id":1,"method":"a","method":"b"}'
    assert laptop.send("POST", wire.PATH_CALLS, malformed).status == 400
    receiver.next("attack.refused", reason="frame.duplicate", grant=grant)
    # A stranger who guesses invites.
    assert SigningLaptop(served.url).enrol("guessed").code == "invite.unknown"
    receiver.next("attack.refused", reason="invite.unknown", grant="")
    once = [
        e["data"]["reason"] for e in receiver.events if e["type"] == "attack.refused" and e["data"]["grant"] == grant
    ]
    assert len(once) == len(set(once))


def test_what_is_told_holds_no_secret(served: Served, receiver: Receiver) -> None:
    laptop, grant = served.enrol()
    laptop.exchange("GET", wire.PATH_SESSION, b"", {"Authorization": f"DPoP {laptop.token}x", "Percall-Wire": "1"})
    receiver.next("attack.refused", reason="grant.token")
    receiver.next("device.enrolled", grant=grant)
    told = json.dumps(receiver.events)
    assert laptop.token not in told
    assert CANARY not in told


def test_a_url_is_shown_by_its_origin_and_its_key_once(served: Served, receiver: Receiver) -> None:
    for row in served.administrator.administer("GET", "/v1/admin/webhooks"):
        assert "a-secret-path" not in json.dumps(row)
        assert receiver.key not in json.dumps(row)
    changes = json.dumps(served.administrator.administer("GET", "/v1/admin/changes"))
    assert "webhook.add" in changes
    assert "a-secret-path" not in changes
    assert receiver.key not in changes


def test_an_endpoint_that_fails_gets_its_events_later_in_order(served: Served, receiver: Receiver) -> None:
    receiver.status = 500
    grants = [served.enrol()[1] for _ in range(3)]
    receiver.wait(lambda: receiver.attempts >= 1, "an attempt")
    wait_for(lambda: bool(problems(served)), "the failure in the listing")
    assert problems(served) == ["It answered 500."]
    receiver.status = 204
    receiver.next("device.enrolled", grant=grants[-1])
    told = [event["data"]["grant"] for event in receiver.events if event["type"] == "device.enrolled"]
    assert [grant for grant in told if grant in grants] == grants


def test_an_event_that_its_receiver_refuses_holds_up_the_others_for_a_moment_alone(
    served: Served, receiver: Receiver
) -> None:
    refused = served.invite()
    receiver.refuses = refused["grant"]
    SigningLaptop.enrolled(served.url, refused["invite"])
    grants = [served.enrol()[1] for _ in range(2)]
    receiver.next("device.enrolled", grant=grants[1])
    told = [event["data"]["grant"] for event in receiver.events if event["type"] == "device.enrolled"]
    assert [grant for grant in told if grant in {*grants, refused["grant"]}] == grants, "in order, but for the one"
    wait_for(lambda: not problems(served), "nothing is wrong any more")
    receiver.refuses = ""
    last = served.enrol()[1]
    receiver.next("device.enrolled", grant=last)
    assert refused["grant"] not in json.dumps(receiver.events)


def test_a_receiver_that_refuses_whatever_it_gets_loses_nothing(served: Served, receiver: Receiver) -> None:
    def hooks() -> list[dict[str, Any]]:
        return list(served.administrator.administer("GET", "/v1/admin/webhooks"))

    receiver.status = 400
    grants = [served.enrol()[1] for _ in range(2)]
    receiver.wait(lambda: receiver.attempts >= 4, "it has refused another one too")
    wait_for(lambda: any(row["failed_attempts"] >= 3 for row in hooks()), "that is on record")
    (hook,) = [row for row in hooks() if row["problem"]]
    assert hook["waiting"] == len(grants)


def problems(served: Served) -> list[str]:
    return [row["problem"] for row in served.administrator.administer("GET", "/v1/admin/webhooks") if row["problem"]]


def test_an_endpoint_that_hangs_delays_no_call_and_no_other_endpoint(served: Served, receiver: Receiver) -> None:
    with Receiver(hang=True) as hanging:
        made = subscribe(served, hanging)
        laptop, grant = served.enrol()
        hanging.wait(lambda: hanging.attempts >= 1, "an attempt")
        receiver.next("device.enrolled", grant=grant)
        for _ in range(20):
            assert laptop.call("keyed", "get_item")["decision"] == "permit"
        assert hanging.attempts == 1
        wait_for(lambda: webhook(served, made["webhook"])["failed_attempts"] >= 1, "cut off")
        assert webhook(served, made["webhook"])["problem"] == "No answer within 5 seconds."
        hanging.hang = False
        hanging.next("device.enrolled", grant=grant)
        served.administrator.administer("DELETE", f"/v1/admin/webhooks/{made['webhook']}")


def test_a_broker_that_ends_leaves_its_endpoints_to_the_next_one(served: Served) -> None:
    async def due() -> list[str]:
        store = await open_store(served.database or served.folder / "broker" / "store.sqlite3")
        rows = await store.fetch("due_webhooks", sender="another", now_ms=int(time.time() * 1000))
        await store.close()
        return [row["id"] for row in rows]

    with Receiver(hang=True) as hanging:
        made = subscribe(served, hanging)
        served.enrol()
        hanging.wait(lambda: hanging.attempts >= 1, "an attempt")
        assert made["webhook"] not in asyncio.run(due())
        served.stop()
        assert made["webhook"] in asyncio.run(due())
        served.start()
        served.administrator.nonce = ""
        served.administrator.administer("DELETE", f"/v1/admin/webhooks/{made['webhook']}")


def test_an_event_survives_a_kill(served: Served, receiver: Receiver) -> None:
    receiver.status = 503
    _, grant = served.enrol()
    receiver.wait(lambda: receiver.attempts >= 1, "an attempt")
    served.stop(signal.SIGKILL)
    receiver.status = 204
    served.start()
    receiver.next("device.enrolled", grant=grant)


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://example.com/hook", "webhook.url"),
        ("http://10.0.0.1/hook", "webhook.url"),
        ("https://user:secret@example.com/hook", "request.url"),
        ("ftp://example.com/hook", "request.url"),
        ("", "request.url"),
    ],
)
def test_an_endpoint_is_https_or_on_loopback(served: Served, url: str, code: str) -> None:
    answer = served.administrator.send("POST", "/v1/admin/webhooks", json.dumps({"url": url}).encode())
    assert answer.status == 400
    assert answer.code == code
    assert answer.json["error"]["next_step"] == "Give an https URL."
    assert url == "" or url not in answer.body.decode()


def test_an_https_endpoint_at_a_private_address_is_not_connected_to(served: Served) -> None:
    made = served.administrator.administer("POST", "/v1/admin/webhooks", {"url": "https://localhost/hook"})
    told = served.administrator.administer("POST", f"/v1/admin/webhooks/{made['webhook']}/test")
    assert told["delivered"] is False
    assert "not public" in told["problem"]
    served.administrator.administer("DELETE", f"/v1/admin/webhooks/{made['webhook']}")


def test_a_test_event_says_at_once_how_it_went(served: Served, receiver: Receiver) -> None:
    (row,) = [r for r in served.administrator.administer("GET", "/v1/admin/webhooks") if r["origin"] in receiver.url]
    told = served.administrator.administer("POST", f"/v1/admin/webhooks/{row['webhook']}/test")
    assert told["delivered"] is True
    assert receiver.next("webhook.test")["data"] == {"webhook": row["webhook"]}
    receiver.status = 404
    told = served.administrator.administer("POST", f"/v1/admin/webhooks/{row['webhook']}/test")
    assert (told["delivered"], told["problem"]) == (False, "It answered 404.")
    assert served.administrator.send("POST", "/v1/admin/webhooks/wh_none/test").code == "webhook.unknown"


def test_an_expiring_grant_is_told_once(upstream: Upstream, tmp_path: Path) -> None:
    with Served(tmp_path) as own, Receiver() as receiver:
        own.add_server("keyed", keyed_entry(upstream.url), CANARY)
        subscribe(own, receiver)
        _, soon = own.enrol(expires_at=int(time.time()) + 6 * 86400)
        _, late = own.enrol(expires_at=int(time.time()) + 90 * 86400)
        for _ in range(2):
            own.stop()
            own.start()
            receiver.next("grant.expiring", grant=soon)
        _, last = own.enrol()
        receiver.next("device.enrolled", grant=last)
        told = [event["data"]["grant"] for event in receiver.events if event["type"] == "grant.expiring"]
        assert told == [soon]
        assert late not in told


def test_two_replicas_tell_each_event_once_and_survive_each_other(
    postgresql: str, tmp_path: Path, upstream: Upstream
) -> None:
    with Served(tmp_path / "first", postgresql) as first, Receiver() as receiver:
        first.add_server("keyed", keyed_entry(upstream.url), CANARY)
        made = subscribe(first, receiver)
        second = Served(tmp_path / "second")
        second.environment = {**first.environment, "PERCALL_BROKER_HOME": str(tmp_path / "second" / "broker")}
        second.environment["PERCALL_BROKER_PUBLIC_URL"] = first.url
        copy_home(tmp_path)
        second.start()
        try:
            receiver.status = 500
            grants = [first.enrol()[1] for _ in range(5)]
            receiver.wait(lambda: receiver.attempts >= 2, "attempts")
            receiver.status = 204
            grants += [first.enrol()[1] for _ in range(5)]
            first.stop(signal.SIGKILL)
            receiver.next("device.enrolled", grant=grants[-1])
            told = [event["data"]["grant"] for event in receiver.events]
            assert set(grants) <= set(told)
            assert [grant for grant in dict.fromkeys(told) if grant in grants] == grants
            by_grant = {
                event["data"]["grant"]: identifier
                for event, identifier in zip(receiver.events, receiver.ids, strict=True)
            }
            assert len(set(by_grant.values())) == len(set(told))
        finally:
            second.stop()
        assert made["webhook"].startswith("wh_")


def copy_home(folder: Path) -> None:
    """The second replica's folder: the same settings and keys."""
    for path in (folder / "first" / "broker").rglob("*"):
        target = folder / "second" / path.relative_to(folder / "first")
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
            target.chmod(0o600)
