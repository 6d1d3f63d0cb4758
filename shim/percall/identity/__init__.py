"""Who this device is to a broker: the device key and the grant token, kept in a keyring and read by a helper process.

`percall run` starts the helper beside its child and reads the answer when the first request needs signing, so that
neither the keyring's libraries nor its waits are in that process. Standard library only here.
"""

from __future__ import annotations

import base64
import binascii
import json
import sys

from percall import system
from percall.errors import IdentityError
from percall.lean import dataclass

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    import subprocess

    from percall.system.posix import Fork

SEED_BYTES = 32
MAX_ITEM_CHARACTERS = 1280
"""What Windows' Credential Manager stores at most; we keep to it everywhere."""
OTHER_CHOICE = "Or choose the passphrase-encrypted file by name: `percall login … --keyring file`."


@dataclass(frozen=True, slots=True)
class Identity:
    """The secrets of one login: the device key's seed, the grant token, the proxy's password. Its repr shows none."""

    seed: bytes
    token: str
    proxy_password: str = ""

    def __repr__(self) -> str:
        return "Identity()"


def start_reader(*grants: str) -> subprocess.Popen[bytes]:
    """Starts the helper that reads the secrets of grants' logins; each line that it writes is for `read_answer`.

    It has its own time-out, never asks on the terminal (the client owns that), and ends by itself.
    """
    import subprocess  # noqa: PLC0415 - 5 ms, which a fork does without

    return subprocess.Popen(
        [sys.executable, "-EP", "-m", "percall.identity.reader", *grants],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def fork_reader(grant: str, keyring: str) -> Fork | None:
    """The same helper as a fork of this process, for the start of a process that waits for it; None where none may be.

    It saves an interpreter's start, and what both processes import next is imported once, before they part. To be
    called while there is one thread, and nothing secret or of the client's. Raises OSError.
    """
    import ctypes  # noqa: F401, PLC0415
    import socket  # noqa: F401, PLC0415
    import typing  # noqa: F401, PLC0415

    from percall import home  # noqa: F401, PLC0415

    if keyring == "file":
        import hashlib  # noqa: F401, PLC0415

        import nacl.bindings  # noqa: F401, PLC0415

    def work() -> int:
        from percall.identity import reader  # noqa: PLC0415 - in the helper alone

        return reader.answer(grant)

    return system.forked(work)


def read_answer(answer: bytes) -> Identity:
    """The secrets from a reader's answer. Raises IdentityError: the reader's own, or that it ended without one."""
    try:
        members = json.loads(answer)
        if error := members.get("error"):
            failure = IdentityError(str(error["code"]), str(error["message"]), str(error["next_step"]))
        else:
            seed = base64.urlsafe_b64decode(members["seed"] + "==")
            return Identity(seed, str(members["token"]), str(members.get("proxy_password", "")))
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
        raise IdentityError(
            "keyring.reader", "The keyring's helper process ended without an answer.", OTHER_CHOICE
        ) from None
    raise failure


def item(identity: Identity) -> str:
    """The keyring item for an identity: one short JSON object. Raises IdentityError when it would not fit."""
    seed = base64.urlsafe_b64encode(identity.seed).rstrip(b"=").decode()
    members = {"seed": seed, "token": identity.token}
    if identity.proxy_password:
        members["proxy_password"] = identity.proxy_password
    text = json.dumps(members, separators=(",", ":"))
    if len(text) > MAX_ITEM_CHARACTERS or len(identity.seed) != SEED_BYTES:
        raise IdentityError(
            "keyring.too_long",
            f"The grant does not fit into a keyring item of {MAX_ITEM_CHARACTERS} characters.",
            "Use a shorter password for the proxy, if it has one.",
        )
    return text
