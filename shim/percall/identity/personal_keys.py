"""A person's own keys for servers, kept by the broker: given, rotated, offered and removed, being there.

Each change is one request, signed by the device and by the person's presence; the key goes in its body and nowhere
else. None ever comes back.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from percall import home, wire
from percall.errors import BrokerRefusal, UsageError, word
from percall.identity import presence

if TYPE_CHECKING:
    from collections.abc import Iterator

    from percall.home import Login
    from percall.identity.client import SignedClient


def login_for(server: str, agent: str | None = None) -> Login:
    """The newest login whose grant named this server, as the broker last said; else the newest. Raises UsageError."""
    logins = home.logins(agent)
    if not logins:
        raise home.no_login("key.no_login", agent)
    for login in logins:
        session = home.session(login.grant)
        if session is not None and any(granted.entry.name == server for granted in session.servers):
            return login
    return logins[0]


def listed(broker: SignedClient) -> tuple[wire.PersonalKey, ...]:
    """The keys of this login's person. Raises PercallError."""
    return _asked(broker).keys


def place_at(broker: SignedClient, server: str) -> wire.KeyPlace:
    """Where a key for a server would go, for its owner to see before they give it. Raises PercallError."""
    for place in _asked(broker).places:
        if place.server == server:
            return place
    raise UsageError(
        "key.server",
        f"You can give no key of yours for {server!r}: no grant of yours names it, or it takes none.",
        "See: percall status",
    )


def require_givable(broker: SignedClient, server: str, verb: str) -> None:
    """What the broker would refuse once the key was typed: one to add that is there, one to rotate that is not, and a
    person who cannot show that they are there. Raises PercallError.
    """
    is_held = any(key.server == server for key in _asked(broker).keys)
    if verb == "add" and is_held:
        raise UsageError(
            "key.exists",
            f"You have given a key for {server!r} already.",
            f"To replace it: percall key rotate {word(server)}",
        )
    if verb == "rotate" and not is_held:
        raise UsageError(
            "key.unknown",
            f"You have no key of your own for {server!r}.",
            f"To give one: percall key add {word(server)}",
        )
    presence.require_possible(broker.session())


def change(
    broker: SignedClient, server: str, verb: str, key: bytes = b"", place: wire.KeyPlace | None = None
) -> wire.PersonalKey | None:
    """Changes the key for one server (`wire.KeyChange` has the verbs); as it is now, None where it was removed.

    `place` is where its owner was told that it goes; to confirm without one is to take the place as it is. Asks for the
    passphrase at the terminal, once a client. Raises PercallError.
    """
    if verb == "confirm" and place is None:
        place = place_at(broker, server)
    asked = wire.KeyChange(server, verb, place.binding if place is not None else "")
    message = wire.join(wire.encode(asked), key)
    with _naming_the_old():
        answer = broker.request("POST", wire.PATH_KEYS, body=message, media_type=wire.MEDIA_TYPE)
    keys = wire.decode(wire.PersonalKeys, wire.strict_json(answer.content)).keys
    return keys[0] if keys else None


def _asked(broker: SignedClient) -> wire.PersonalKeys:
    with _naming_the_old():
        return wire.decode(wire.PersonalKeys, broker.json("GET", wire.PATH_KEYS))


@contextmanager
def _naming_the_old() -> Iterator[None]:
    """A broker of an older version has no such door, and says no more than that."""
    try:
        yield
    except BrokerRefusal as error:
        if error.code != wire.CODE_PATH:
            raise
        raise BrokerRefusal(
            "key.broker",
            "The broker there is of a version without personal keys.",
            "Ask your administrator to update it.",
        ) from None
