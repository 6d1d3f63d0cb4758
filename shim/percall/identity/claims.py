"""Picking up the grants that wait for this device's person: no invite, the device key that is here already signs.

A grant that names another agent gets a device key of that agent's own. Asking twice is harmless: what an answer that
was lost has taken is given again.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from percall import home, wire
from percall.errors import BrokerRefusal, PercallError, UsageError
from percall.home import DEFAULT_AGENT, Login
from percall.identity import Identity, keyrings
from percall.identity.client import SignedClient
from percall.identity.enrolment import Enrolment, keep, new_seed
from percall.proof import DeviceKey, make_enrolment_proof

if TYPE_CHECKING:
    from collections.abc import Sequence

    from percall.identity.keyrings import Keyring


@dataclass(frozen=True, slots=True)
class _Signer:
    """A login of this device, and its secrets."""

    login: Login
    secrets: Identity

    def client(self) -> SignedClient:
        return SignedClient.with_identity(self.login, self.secrets)


def pick_up(broker: str, agent: str | None = None) -> tuple[Enrolment, ...]:
    """What waits at a broker for the people and agents of this device, and is kept here from now on.

    Grants that name no agent go to `agent`, unless that is somebody else's here; without one to their person's
    `default` where that is here, else to the agent of that person's newest login.
    Raises PercallError: the first problem, when no login of this broker could ask.
    """
    logins = [login for login in home.logins() if login.broker == broker]
    kept: list[Enrolment] = []
    failure: PercallError | None = None
    answered = False
    for person in dict.fromkeys(login.person for login in logins):  # administrator and user may share a machine
        theirs = [login for login in logins if login.person == person]
        others = {login.agent for login in logins} - {login.agent for login in theirs}
        try:
            signer, waiting = _asked(theirs)
        except PercallError as error:
            failure = failure or error
            continue
        answered = True
        kept += _taken(signer, waiting, theirs, agent if agent not in others else None)
    if answered:
        return tuple(kept)
    raise failure or UsageError(
        "login.no_invite",
        "This device has no login there yet.",
        "Ask your administrator for an invite, then: `percall login URL --invite CODE`.",
    )


def pick_up_everywhere(logins: Sequence[Login], agent: str | None = None) -> list[Enrolment]:
    """What waits at the brokers of these logins, as `pick_up`. One that cannot be asked is passed over."""
    came: list[Enrolment] = []
    for broker in dict.fromkeys(login.broker for login in logins):
        with contextlib.suppress(PercallError):
            came += pick_up(broker, agent)
    return came


def _taken(signer: _Signer, waiting: wire.Waiting, logins: Sequence[Login], agent: str | None) -> list[Enrolment]:
    """What waits for one person; `logins` are all of theirs here."""
    here, agents = {login.grant for login in logins}, {login.agent for login in logins}
    whose = agent or (DEFAULT_AGENT if DEFAULT_AGENT in agents else signer.login.agent)
    lost = [one.agent for one in waiting.taken if one.grant not in here and one.agent in agents]
    kept: list[Enrolment] = []
    for wanted in dict.fromkeys([*(one.agent or whose for one in waiting.grants), *lost]):
        kept += _pick_up_for(wanted, signer, logins)
    return kept


def _asked(logins: Sequence[Login]) -> tuple[_Signer, wire.Waiting]:
    """The newest login that the broker listens to, and what waits. Raises PercallError: the newest login's problem."""
    failure: PercallError | None = None
    for login in logins:
        try:
            signer = _Signer(login, keyrings.load(login))
            return signer, _waiting(signer)
        except PercallError as error:
            failure = failure or error
    raise failure or RuntimeError


def _waiting(signer: _Signer) -> wire.Waiting:
    try:
        with signer.client() as client:
            return wire.decode(wire.Waiting, client.json("GET", wire.PATH_CLAIMS))
    except BrokerRefusal as error:
        if error.code == wire.CODE_PATH:  # a broker from before there were claims
            return wire.Waiting()
        raise


def _pick_up_for(agent: str, signer: _Signer, logins: Sequence[Login]) -> list[Enrolment]:
    own = next((login for login in logins if login.agent == agent), None)
    keyring = keyrings.of(signer.login)
    keyring.prepare_again()
    if own is None:
        return _claimed(agent, signer, new_seed(), keyring, reused_key=False)
    try:
        held = signer if own.grant == signer.login.grant else _Signer(own, keyrings.load(own))
        return _claimed(agent, held, held.secrets.seed, keyring, reused_key=True)
    except PercallError:
        if own.grant == signer.login.grant:
            raise
        # Its key is gone from the keyring, or was ended: the agent gets another one.
        return _claimed(agent, signer, new_seed(), keyring, reused_key=False)


def _claimed(agent: str, signer: _Signer, seed: bytes, keyring: Keyring, *, reused_key: bool) -> list[Enrolment]:
    key, login = DeviceKey(seed), signer.login
    body = wire.dump(wire.encode(wire.Claim(agent, key.public_jwk())))
    home.require_room()
    with signer.client() as client:
        if seed != signer.secrets.seed:
            _, proof = make_enrolment_proof(key, login.broker + wire.PATH_CLAIMS, body)
            client.more[wire.HEADER_INTRODUCTION] = proof
        answer = client.request("POST", wire.PATH_CLAIMS, body=body)
    claimed = wire.decode(wire.Claimed, wire.strict_json(answer.content))
    here = {one.grant for one in home.logins()}
    kept = []
    for enrolled in claimed.enrolled:
        session = enrolled.session
        if session.grant in here or session.agent != agent:
            continue
        record = Login(
            grant=session.grant,
            broker=login.broker,
            agent=session.agent,
            person=session.person,
            device=session.device,
            keyring=keyring.choice,
            created_at=time.time_ns(),
            backend=keyring.backend,
            ca_file=login.ca_file,
            passphrase_file=keyring.passphrase_file,
            proxy=login.proxy,
        )
        held = Identity(seed, enrolled.token, signer.secrets.proxy_password)
        kept.append(keep(record, enrolled, held, keyring, reused_key=reused_key))
    return kept


def leave(login: Login) -> wire.Departed:
    """Ends what a login's device key holds at its broker. Raises PercallError."""
    with SignedClient.of(login) as client:
        return wire.decode(wire.Departed, client.json("DELETE", wire.PATH_AGENT))
