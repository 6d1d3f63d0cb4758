"""Somebody is stopped while they sign in: what happens between two steps, which no request could time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

import pytest

from harness.composing import composed
from percall import wire
from percall_broker.model.errors import Forbidden
from percall_broker.oidc.id_token import Account
from percall_broker.pipeline.administration.ledger import Ledger
from percall_broker.pipeline.sign_in import SignIn
from percall_broker.store.protocol import Statement

if TYPE_CHECKING:
    from pathlib import Path

    from percall_broker.compose import Broker
    from percall_broker.oidc import Client, Provider

pytestmark = pytest.mark.anyio
ASKED = wire.SignIn("code", "verifier", "nonce", "http://127.0.0.1:1/", enrol=True)


class _Provider:
    issuer = "https://issuer.example"

    async def account(self, *_: Any) -> Account:
        return Account(self.issuer, "subject", "alice", frozenset({"engineers"}))


def sign_in_at(broker: Broker) -> SignIn:
    provider = _Provider()
    return SignIn(
        Ledger(broker.store, broker.changes.announce),
        broker.administration.people,
        broker.administration.groups,
        cast("Provider", provider),
        cast("Client", provider),
        {"engineers": "here"},
        1,
    )


async def remove(broker: Broker) -> None:
    await broker.store.transact(Statement("remove_person", {"name": "alice"}))


async def state(broker: Broker) -> str:
    (row,) = await broker.store.fetch("person_of_name", name="alice")
    return str(row["state"])


@pytest.mark.parametrize("step", ["_take_groups", "invite"])
async def test_who_is_removed_while_they_sign_in_stays_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    async with composed(tmp_path) as broker:
        sign_in = sign_in_at(broker)
        assert (await sign_in(ASKED, time.time())).invite
        place = sign_in if step == "_take_groups" else broker.administration.people
        goes_on = getattr(place, step)

        async def removed_first(*arguments: Any, **more: Any) -> Any:
            if step == "_take_groups":
                await goes_on(*arguments, **more)
                return await remove(broker)
            await remove(broker)
            return await goes_on(*arguments, **more)

        monkeypatch.setattr(place, step, removed_first)
        with pytest.raises(Forbidden) as caught:
            await sign_in(ASKED, time.time() + 60)
        assert caught.value.code == "person.removed"
        assert await state(broker) == "removed"
