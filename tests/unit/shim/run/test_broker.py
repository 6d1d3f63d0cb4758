"""The broker as the loop sees it: what is asked of it before anybody can sign."""

from __future__ import annotations

import os
import subprocess  # noqa: F401 - what starts a helper is loaded before descriptors run out
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest

from harness.limits import no_descriptor
from percall import home, identity, own_memory, wire
from percall.http1 import Address
from percall.run import broker as run_broker
from percall.run import connection
from percall.run.broker import Broker, SignedRequest, Signer
from percall.run.loop import Loop
from unit.shim.run.conftest import SEED

if TYPE_CHECKING:
    from pathlib import Path

    from percall.errors import PercallError
    from percall.system.posix import Fork
    from unit.shim.run.conftest import Laptop
    from unit.shim.run.small_broker import SmallBroker

SETTLED = wire.dump(wire.encode(wire.Settlements(())))


def test_a_first_request_bears_the_nonce_that_came_while_the_key_was_read(laptop: Laptop, broker: SmallBroker) -> None:
    loop = Loop()
    signer = Signer(Address.parse(broker.url))
    shims = Broker(loop, laptop.login, signer)
    failures: list[PercallError] = []

    def failed(error: PercallError) -> None:
        failures.append(error)
        loop.stop()

    def key_was_read_once_there_is_a_nonce() -> None:
        if signer.nonce:
            signer.accept(SEED, "token-of-g1")
            shims.request("POST", wire.PATH_SETTLEMENTS, SETTLED, lambda _: loop.stop(), failed)
        else:
            loop.later(0.001, key_was_read_once_there_is_a_nonce)

    shims.warm()
    loop.later(0.0, key_was_read_once_there_is_a_nonce)
    loop.run()
    shims.close()
    assert not failures
    assert broker.requests == [f"GET {wire.PATH_NONCE}", f"POST {wire.PATH_SETTLEMENTS}"]
    assert broker.challenges == 0


def test_what_is_done_but_once_goes_out_on_no_connection_that_may_have_died_in_its_sleep(
    laptop: Laptop, broker: SmallBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_RESTED_SECONDS", 0.0)
    loop = Loop()
    signer = Signer(Address.parse(broker.url))
    signer.accept(SEED, "token-of-g1")
    shims = Broker(loop, laptop.login, signer)
    opened: list[int] = []

    def ask(*kinds: bool) -> None:
        def answered(*_: object) -> None:
            opened.append(broker.connections)
            ask(*kinds[1:]) if kinds[1:] else loop.stop()

        request = SignedRequest(
            shims, "POST", wire.PATH_SETTLEMENTS, SETTLED, answered, lambda _: loop.stop(), once=kinds[0]
        )
        shims.send(request)

    loop.later(0.0, lambda: ask(False, False, True, False))
    loop.run()
    shims.close()
    assert opened == [1, 1, 2, 2]


def test_a_broker_that_has_no_nonce_to_give_beforehand_costs_one_repetition(
    laptop: Laptop, broker: SmallBroker
) -> None:
    broker.gives_nonces = False
    with laptop.client() as client:
        client.initialize()
        assert client.call_text("echo") == "echo"
    assert broker.challenges >= 1


@pytest.fixture
def _readable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process of the tests is not the shim's, and stays open to whoever debugs it."""
    monkeypatch.setattr(own_memory, "close", lambda: None)


def outcome(shims: Broker, loop: Loop) -> str:
    """What becomes of a request: the code of its error, or nothing."""
    loop._stopped = False  # it has run before
    told: list[str] = []

    def failed(error: PercallError) -> None:
        told.append(error.code)
        loop.stop()

    loop.later(0.0, lambda: shims.request("POST", wire.PATH_SETTLEMENTS, SETTLED, lambda _: loop.stop(), failed))
    loop.run()
    return "".join(told)


@pytest.mark.usefixtures("_readable")
def test_a_keyrings_helper_that_cannot_be_started_is_told_and_started_for_a_later_request(
    laptop: Laptop, broker: SmallBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = Loop()
    shims = Broker(loop, laptop.login, Signer(Address.parse(broker.url)))
    with no_descriptor():
        shims.read_identity()
    assert outcome(shims, loop) == "keyring.reader"
    monkeypatch.setattr(run_broker, "_READ_AGAIN_SECONDS", 0.0)
    assert outcome(shims, loop) == ""
    shims.close()


@pytest.mark.usefixtures("_readable")
def test_a_keyrings_helper_that_says_nothing_is_given_up_and_another_one_is_asked_later(
    laptop: Laptop, broker: SmallBroker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "silent", 0o600)
    home.save_login(replace(laptop.login, passphrase_file=str(tmp_path / "silent")))
    monkeypatch.setattr(run_broker, "_READER_SECONDS", 0.1)
    loop = Loop()
    shims = Broker(loop, laptop.login, Signer(Address.parse(broker.url)))
    shims.read_identity()
    assert outcome(shims, loop) == "keyring.silent"
    home.save_login(laptop.login)
    monkeypatch.setattr(run_broker, "_READER_SECONDS", 60.0)
    monkeypatch.setattr(run_broker, "_READ_AGAIN_SECONDS", 0.0)
    assert outcome(shims, loop) == ""
    shims.close()


@pytest.mark.usefixtures("_readable")
def test_the_time_of_a_helper_that_has_answered_does_not_end_the_next_one(
    laptop: Laptop, broker: SmallBroker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Somebody types at the keyring's own prompt, ten minutes after an earlier helper was started."""
    home.save_login(replace(laptop.login, passphrase_file=""))
    helper = identity.start_reader(laptop.login.grant)
    helper.wait()
    os.mkfifo(tmp_path / "silent", 0o600)
    home.save_login(replace(laptop.login, passphrase_file=str(tmp_path / "silent")))
    monkeypatch.setattr(run_broker, "_READER_SECONDS", 0.0)
    loop = Loop()
    shims = Broker(loop, laptop.login, Signer(Address.parse(broker.url)), cast("Fork", helper))
    failures: list[str] = []

    def request() -> None:
        shims.request("POST", wire.PATH_SETTLEMENTS, SETTLED, lambda _: None, failed)

    def failed(error: PercallError) -> None:
        failures.append(error.code)
        if len(failures) == 1:
            monkeypatch.setattr(run_broker, "_READER_SECONDS", 60.0)
            request()
            loop.later(0.0, loop.stop)  # after what has been due for longer

    shims.read_identity()
    request()
    loop.run()
    shims.close()
    assert failures == ["passphrase.missing"]
