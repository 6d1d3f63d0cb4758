"""One item read from a Secret Service, quickly: what `keyring` would find there, in a fifth of the time.

`keyring` and what it imports take a tenth of a second, for which the client of a remote server waits. This asks the
same question by jeepney, in a session that is encrypted as theirs are. It answers in the plain case only: the default
collection is open and holds the item. In every other one, and whenever `keyring` is configured, it finds nothing, and
`keyring` looks, unlocks, and says what is wrong. Protocol: the Secret Service API of freedesktop.org, draft 0.2.
"""

from __future__ import annotations

import os

from jeepney import DBusAddress, HeaderFields, MessageType, new_method_call
from jeepney.io.blocking import open_dbus_connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from jeepney.io.blocking import DBusConnection

_CONFIGURES_KEYRING = "KEYRING_PROPERTY_"
_NAME, _INTERFACE = "org.freedesktop.secrets", "org.freedesktop.Secret."
_SERVICE, _DEFAULT = "/org/freedesktop/secrets", "/org/freedesktop/secrets/aliases/default"
_ENCRYPTED = "dh-ietf1024-sha256-aes128-cbc-pkcs7"
_GROUP_BYTES, _EXPONENT_BYTES = 128, 32
# The 1024-bit group of RFC 2409 (section 6.2), with 2 as its generator.
_PRIME = int(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD"
    "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"
    "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE65381FFFFFFFFFFFFFFFF",
    16,
)


def find(service: str, name: str) -> str | None:
    """The item that `keyring` keeps under a service and a name: SECRET, never log. None: ask `keyring`."""
    if any(variable.startswith(_CONFIGURES_KEYRING) for variable in os.environ):
        return None
    try:
        with open_dbus_connection() as bus:
            return _found(bus, {"service": service, "username": name})
    except (OSError, LookupError, ValueError, TypeError, RuntimeError):
        return None  # no bus, a service that is not there, says no, or answers otherwise than expected


def _found(bus: DBusConnection, attributes: dict[str, str]) -> str:
    exponent = int.from_bytes(os.urandom(_EXPONENT_BYTES), "big")
    ours = pow(2, exponent, _PRIME).to_bytes(_GROUP_BYTES, "big")
    opening = _ask(bus, _SERVICE, "Service", "OpenSession", "sv", _ENCRYPTED, ("ay", ours))
    searching = _ask(bus, _DEFAULT, "Collection", "SearchItems", "a{ss}", attributes)
    from percall.identity import secret_session  # noqa: PLC0415 - takes as long to load as the service to answer

    ((_, theirs), session), (paths,) = _answers(bus, opening, searching)
    (((_, vector, sealed, _),),) = _answers(bus, _ask(bus, paths[0], "Item", "GetSecret", "o", session))
    shared = _shared(int.from_bytes(theirs, "big"), exponent)
    return secret_session.opened(shared, bytes(vector), bytes(sealed)).decode()


def _ask(bus: DBusConnection, path: str, interface: str, method: str, signature: str, *arguments: Any) -> int:
    """Sends a call; its serial number."""
    serial: int = next(bus.outgoing_serial)
    bus.send(new_method_call(DBusAddress(path, _NAME, _INTERFACE + interface), method, signature, arguments), serial)
    return serial


def _answers(bus: DBusConnection, *asked: int) -> list[Any]:
    """The values of the answers to these calls, in their order. Raises RuntimeError when one is an error."""
    answers: dict[int, Any] = {}
    while not answers.keys() >= set(asked):
        message = bus.receive()
        answered = message.header.fields.get(HeaderFields.reply_serial)
        if answered in asked:
            if message.header.message_type is not MessageType.method_return:
                raise RuntimeError(message.header.fields.get(HeaderFields.error_name))
            answers[answered] = message.body
    return [answers[serial] for serial in asked]


def _shared(theirs: int, exponent: int) -> bytes:
    """What both sides of the session know, and nobody else (Diffie-Hellman)."""
    if not 1 < theirs < _PRIME - 1:
        raise ValueError("A public key that would make the session's key known to all.")
    return pow(theirs, exponent, _PRIME).to_bytes(_GROUP_BYTES, "big")
