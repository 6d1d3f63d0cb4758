"""The broker as the loop sees it: what is asked of it before anybody can sign."""

from __future__ import annotations

from typing import TYPE_CHECKING

from percall import wire
from percall.http1 import Address
from percall.run import connection
from percall.run.broker import Broker, SignedRequest, Signer
from percall.run.loop import Loop
from unit.shim.run.conftest import SEED

if TYPE_CHECKING:
    import pytest

    from percall.errors import PercallError
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
