"""What was adopted on this device: a record each, and beside it the config as it was, sealed, for `percall undo`.

    adoptions/ID.json   who, where, when; no secret       adoptions/ID.sealed   the whole text of the config before

The key of the seal is derived from the device key of the login that adopted, which is in the keyring, and a salt of
the record's own. A backup is erased when its key was rotated, and after seven days; the record stays.
"""

from __future__ import annotations

import hmac
import os
import secrets
import time
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from nacl.exceptions import CryptoError
from nacl.secret import Aead

from percall import home, wire
from percall.errors import UsageError, WireError

if TYPE_CHECKING:
    from collections.abc import Iterable

KEPT_SECONDS = 7 * 86400
_FOLDER = "adoptions"
_ID_BYTES = 8
_SALT_BYTES = 16
_PURPOSE = b"percall backup"


@dataclass(frozen=True, slots=True)
class Adoption:
    """One server of one config that was (or was about to be) adopted.

    `file` is the config, `steps` leads to the entry in it, `entry` is its name there; `server` is the name at Percall.
    `written` is the digest of the file as Percall writes it, empty until it is about to. `key_version` is the version
    that the broker gave the key, 0 until it has it; `key_tag` recognises the key without revealing it. `state` is
    begun, adopted, undone, or abandoned where a later attempt came through.
    """

    id: str
    state: str
    client: str
    file: str
    steps: tuple[str, ...]
    entry: str
    server: str
    broker: str
    grant: str
    agent: str
    salt: str
    key_tag: str
    created_at: int
    key_version: int = 0
    written: str = ""


def begin(
    *,
    client: str,
    file: str,
    steps: Iterable[str],
    entry: str,
    server: str,
    login: home.Login,
    seed: bytes,
    key: str,
    text: str,
) -> Adoption:
    """A new record, on disk, with the sealed text of the config. Raises UsageError, and then nothing has begun."""
    salt = os.urandom(_SALT_BYTES)
    record = Adoption(
        id=f"a_{secrets.token_hex(_ID_BYTES)}",
        state="begun",
        client=client,
        file=file,
        steps=tuple(steps),
        entry=entry,
        server=server,
        broker=login.broker,
        grant=login.grant,
        agent=login.agent,
        salt=salt.hex(),
        key_tag=_tag(key, seed, salt),
        created_at=int(time.time()),
    )
    box = Aead(_sealing_key(seed, salt)).encrypt(text.encode(), record.id.encode())
    home.write(_sealed(record), bytes(box))
    keep(record)
    return record


def keep(record: Adoption) -> None:
    """Writes a record. Raises UsageError."""
    home.write(_name(record), wire.dump(wire.encode(record)))


def all_of_them() -> list[Adoption]:
    """Every record, oldest first. Raises UsageError for a damaged one."""
    found = []
    try:
        names = sorted(os.listdir(home.path(_FOLDER)))  # noqa: PTH208 - as in `home`
    except FileNotFoundError:
        names = []
    for name in names:
        if not name.endswith(".json"):
            continue
        data = home.read(f"{_FOLDER}/{name}") or b""
        try:
            found.append(wire.decode(Adoption, wire.strict_json(data)))
        except WireError as error:
            raise UsageError(
                "adoption.damaged", f"{home.path(f'{_FOLDER}/{name}')} is damaged: {error.message}", "Delete the file."
            ) from None
    return sorted(found, key=lambda record: record.created_at)


def has_backup(record: Adoption) -> bool:
    """Whether the config as it was is still kept."""
    return home.read(_sealed(record)) is not None


def text_before(record: Adoption, seed: bytes) -> str:
    """The config as it was. SECRET, never log. Raises UsageError where it is erased or damaged."""
    data = home.read(_sealed(record))
    if data is None:
        raise UsageError(
            "adoption.erased",
            f"The backup of {record.entry} in {record.file} was erased: its key was rotated, or a week has passed.",
            "Put the server's old command back by hand, with a key that is valid now.",
        )
    try:
        return Aead(_sealing_key(seed, bytes.fromhex(record.salt))).decrypt(data, record.id.encode()).decode()
    except (CryptoError, ValueError):
        raise UsageError(
            "adoption.sealed",
            f"The backup of {record.entry} in {record.file} does not open with this device's key.",
            "It is of no use any more; put the server's old command back by hand.",
        ) from None


def is_same_key(record: Adoption, key: str, seed: bytes) -> bool:
    """Whether a key is the one that this record is about."""
    return hmac.compare_digest(record.key_tag, _tag(key, seed, bytes.fromhex(record.salt)))


def erase(record: Adoption) -> None:
    """Deletes the sealed config; the record stays. Raises UsageError."""
    home.remove(_sealed(record))


def erase_unfinished(record: Adoption) -> None:
    """Deletes the backups of attempts at the same entry that came to nothing. Raises UsageError."""
    for other in all_of_them():
        if other.state == "begun" and (other.file, other.steps) == (record.file, record.steps):
            erase(other)
            marked(other, state="abandoned")


def erase_old(now: float) -> None:
    """Deletes what is older than seven days. Raises UsageError."""
    for record in all_of_them():
        if record.created_at + KEPT_SECONDS < now:
            erase(record)


def erase_rotated(broker: str, server: str, version: int) -> None:
    """Deletes the backups that hold a key older than `version` of this person's key. Raises UsageError."""
    for record in all_of_them():
        if (record.broker, record.server) == (broker, server) and 0 < record.key_version < version:
            erase(record)


def marked(record: Adoption, **changes: Any) -> Adoption:
    """The record with changes, on disk. Raises UsageError."""
    changed = replace(record, **changes)
    keep(changed)
    return changed


def _sealing_key(seed: bytes, salt: bytes) -> bytes:
    return blake2b(b"seal", key=seed, salt=salt, person=_PURPOSE, digest_size=Aead.KEY_SIZE).digest()


def _tag(key: str, seed: bytes, salt: bytes) -> str:
    tagging = blake2b(b"tag", key=seed, salt=salt, person=_PURPOSE, digest_size=Aead.KEY_SIZE).digest()
    return blake2b(key.encode(), key=tagging, digest_size=32).hexdigest()


def _name(record: Adoption) -> str:
    return f"{_FOLDER}/{record.id}.json"


def _sealed(record: Adoption) -> str:
    return f"{_FOLDER}/{record.id}.sealed"
