"""Where a person chose to keep secrets, as the commands see it: the operating system's keyring, or the sealed file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from percall import home, identity
from percall.errors import IdentityError, UsageError
from percall.identity import passphrase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from percall.home import Login
    from percall.identity import Identity
    from percall.identity.keyring_file import Lock

CHOICES = ("os", "file")
_typed: list[bytes] = []
_keys: dict[Lock, bytes] = {}
"""Of the locks that this command has opened, since Argon2id takes a tenth of a second each time. SECRET, never log."""
_answers: dict[str, bytes] = {}
"""What the system's keyring gave this command for each grant. SECRET, never log."""


class Keyring(Protocol):
    """Keeps identities. `backend` and `passphrase_file` are what a later reader needs to know of it."""

    choice: str
    backend: str
    passphrase_file: str

    def prepare(self) -> None:
        """Makes sure that `store` will work, before an invite is spent. Raises IdentityError."""

    def prepare_again(self) -> None:
        """As `prepare`, where this keyring holds something of this device already. Raises IdentityError."""

    def store(self, grant: str, kept: Identity) -> None:
        """Keeps an identity. Raises IdentityError or UsageError."""

    def delete(self, grant: str) -> None:
        """Forgets an identity, if it is there. Raises IdentityError or UsageError."""


class OsKeyring:
    """The operating system's keyring, reached through a helper process with a time-out."""

    choice = "os"
    passphrase_file = ""

    def __init__(self) -> None:
        self.backend = ""

    def prepare(self) -> None:
        """Chooses the backend and tries it out. Raises IdentityError."""
        self.backend = _write("probe")["backend"]

    def prepare_again(self) -> None:
        """Nothing: the backend was chosen, and tried out, at the first login."""

    def store(self, grant: str, kept: Identity) -> None:
        """Keeps an identity. Raises IdentityError."""
        _write("store", self.backend, grant, given=identity.item(kept))
        _answers.pop(grant, None)

    def delete(self, grant: str) -> None:
        """Forgets an identity, if it is there. Raises IdentityError."""
        _write("delete", self.backend, grant)
        _answers.pop(grant, None)


class FileKeyring:
    """Files under PERCALL_HOME, sealed under one passphrase."""

    choice = "file"
    backend = ""

    def __init__(self) -> None:
        named = passphrase.file()
        self.passphrase_file = str(Path(named).absolute()) if named else ""
        self._opened: tuple[Lock, bytes] | None = None

    def prepare(self) -> None:
        """Asks for the passphrase, unless the files that are there are unlocked; it must open them.

        Raises IdentityError.
        """
        from percall.identity import keyring_file  # noqa: PLC0415 - nacl, only where it is needed

        sealed = [login for login in home.logins() if login.keyring == "file"]
        lock = keyring_file.lock_of(sealed[0].grant) if sealed else keyring_file.new_lock()
        key = _key(lock, self.passphrase_file, new=not sealed)
        if sealed:
            keyring_file.unseal(sealed[0].grant, key)
        self._opened = lock, key

    def prepare_again(self) -> None:
        """What opens the files that are there. Raises IdentityError."""
        self.prepare()

    def store(self, grant: str, kept: Identity) -> None:
        """Keeps an identity, after `prepare`. Raises UsageError."""
        from percall.identity import keyring_file  # noqa: PLC0415 - as above

        assert self._opened is not None  # noqa: S101 - the order of these methods
        keyring_file.seal(grant, identity.item(kept), *self._opened)

    def delete(self, grant: str) -> None:
        """Forgets an identity, if it is there. Raises UsageError."""
        home.remove(home.record_path("keyring", grant, ".sealed"))


def keyring(choice: str) -> Keyring:
    """The keyring that a person named. Raises UsageError."""
    if choice not in CHOICES:
        raise UsageError("keyring.choice", f"There is no keyring {choice!r}.", "Say `os` or `file`.")
    return FileKeyring() if choice == "file" else OsKeyring()


def named(login: Login) -> str:
    """Where a login's key is, for a person: the class of a system's keyring by its own part of the name."""
    if login.keyring == "file":
        return "the encrypted file"
    return login.backend.removeprefix("keyring.backends.").removesuffix(".Keyring")


def of(login: Login) -> Keyring:
    """The keyring of a login, for another grant on the same device."""
    if login.keyring == "file":
        keyring = FileKeyring()
        keyring.passphrase_file = passphrase.file(login.passphrase_file)
        return keyring
    found = OsKeyring()
    found.backend = login.backend
    return found


def load(login: Login) -> Identity:
    """A login's secrets; may ask for a passphrase at the terminal. Raises IdentityError or UsageError."""
    if login.keyring == "file":
        from percall.identity import keyring_file  # noqa: PLC0415 - as above

        key = _key(keyring_file.lock_of(login.grant), passphrase.file(login.passphrase_file))
        return identity.read_answer(keyring_file.unseal(login.grant, key).encode())
    ask([login])
    return identity.read_answer(_answers[login.grant])


def ask(logins: Sequence[Login]) -> None:
    """Asks the system's keyring for several logins at once: one helper process and one wait, for what `load` gives."""
    grants = [login.grant for login in logins if login.keyring != "file" and login.grant not in _answers]
    if grants:
        answer, _ = identity.start_reader(*grants).communicate()
        # A helper that ended early has said nothing of the rest: an empty answer, which `load` calls an error.
        answers = answer.splitlines() + [b""] * len(grants)
        _answers.update(zip(grants, answers, strict=False))


def _key(lock: Lock, passphrase_file: str, *, new: bool = False) -> bytes:
    """A lock's key. SECRET, never log. Raises IdentityError."""
    from percall.identity import unlocking  # noqa: PLC0415 - as above

    if lock not in _keys:
        _keys[lock] = unlocking.opened(lock, passphrase_file, lambda: typed_passphrase(new=new))
    return _keys[lock]


def typed_passphrase(*, new: bool = False) -> bytes:
    """The passphrase, asked for once in a command; twice at that one time where it is new."""
    if not _typed:
        _typed.append(passphrase.from_terminal(new=new))
    return _typed[0]


def _write(*arguments: str, given: str = "") -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-EP", "-m", "percall.identity.writer", *arguments],
        input=given.encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    try:
        members = json.loads(done.stdout)
    except ValueError:
        raise IdentityError(
            "keyring.writer", "The keyring's helper process ended without an answer.", identity.OTHER_CHOICE
        ) from None
    if error := members.get("error"):
        raise IdentityError(error["code"], error["message"], error["next_step"])
    return dict(members)
