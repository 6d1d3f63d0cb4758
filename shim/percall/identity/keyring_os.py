"""The operating system's keyring: macOS Keychain, Windows Credential Manager, Secret Service or KWallet, no other.

Runs only in the helper processes (`reader`, `writer`), since importing `keyring` is slow and a keyring may hang. A
backend that keeps secrets in the clear, or drops them, is refused by name; there is no silent fallback.
"""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress

from percall.errors import IdentityError
from percall.identity import OTHER_CHOICE

TYPE_CHECKING = False  # `typing`, `pathlib` and their like would cost a tenth of a remote server's start
if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

SERVICE = "percall"
_SECRET_SERVICE = "keyring.backends.SecretService.Keyring"  # noqa: S105 - a class's name
BACKENDS = (
    "keyring.backends.macOS.Keyring",
    "keyring.backends.Windows.WinVaultKeyring",
    _SECRET_SERVICE,
    "keyring.backends.libsecret.Keyring",
    "keyring.backends.kwallet.DBusKeyring",
    "keyring.backends.kwallet.DBusKeyringKWallet4",
)
"""The backends that are the operating system's own."""
_FAIL = "keyring.backends.fail.Keyring"


def choose() -> str:
    """The backend to keep this device's secrets in, as its class name.

    The user's own configuration of `keyring` counts, but only for the operating system's backends; of a chain, every
    member must be one. Raises IdentityError when there is none, or one that we refuse.
    """
    import keyring  # noqa: PLC0415 - the helper arms its time-out first
    from keyring.backends.chainer import ChainerBackend  # noqa: PLC0415 - as above

    _find_session_bus()
    try:
        backend = keyring.get_keyring()
        chained = backend.backends if isinstance(backend, ChainerBackend) else [backend]
        members = [_class_name(member) for member in chained]
    except (ImportError, AttributeError, RuntimeError, ValueError) as error:
        raise IdentityError(
            "keyring.missing", f"The configured keyring backend cannot be loaded: {error}.", OTHER_CHOICE
        ) from None
    if members in ([], [_FAIL]):
        raise IdentityError("keyring.missing", "This machine offers no keyring of the operating system.", OTHER_CHOICE)
    for member in members:
        if member not in BACKENDS:
            raise IdentityError(
                "keyring.refused",
                f"The keyring backend {member} is not the operating system's own, so it is refused.",
                f"Unset PYTHON_KEYRING_BACKEND and keyringrc.cfg. {OTHER_CHOICE}",
            )
    return members[0]


def get(backend: str, grant: str) -> str:
    """The item of a grant. Raises IdentityError: missing, locked, or the keyring failed."""
    found = _found_quickly(backend, grant) or _with(backend).get_password(SERVICE, grant)
    if found is None:
        raise IdentityError(
            "keyring.item_missing",
            f"The keyring holds no key for grant {grant}.",
            "Ask the administrator for a new invite, then run `percall login URL --invite CODE`.",
        )
    return found


def _found_quickly(backend: str, grant: str) -> str | None:
    """The item of an open Secret Service, without the time that `keyring` takes; None: ask `keyring`."""
    if backend != _SECRET_SERVICE:
        return None
    from percall.identity import secret_service  # noqa: PLC0415 - only where it is needed

    _find_session_bus()
    return secret_service.find(SERVICE, grant)


def put(backend: str, grant: str, text: str) -> None:
    """Keeps the item of a grant. Raises IdentityError."""
    _with(backend).set_password(SERVICE, grant, text)


def delete(backend: str, grant: str) -> None:
    """Forgets a grant's item, if it is there."""
    from keyring.errors import PasswordDeleteError  # noqa: PLC0415 - as above

    with suppress(PasswordDeleteError):
        _with(backend).delete_password(SERVICE, grant)


def probe(backend: str) -> None:
    """Writes, reads and deletes an item, so that an invite is spent only where its grant can be kept.

    Raises IdentityError.
    """
    name, text = f"probe-{os.urandom(8).hex()}", os.urandom(16).hex()
    keyring = _with(backend)
    keyring.set_password(SERVICE, name, text)
    kept = keyring.get_password(SERVICE, name) == text
    keyring.delete_password(SERVICE, name)
    if not kept:
        raise IdentityError("keyring.failed", "The keyring did not give back what it was given.", OTHER_CHOICE)


def explain(error: Exception) -> IdentityError:
    """A keyring library's error as one of ours. Its text names states, never items' contents."""
    from keyring.errors import KeyringLocked  # noqa: PLC0415 - as above

    if isinstance(error, KeyringLocked) or "locked" in str(error).lower():
        return IdentityError("keyring.locked", "The keyring is locked.", f"Unlock it, then try again. {OTHER_CHOICE}")
    if isinstance(error, TimeoutError):
        return IdentityError("keyring.timeout", "The keyring's service gave no answer.", f"Restart it. {OTHER_CHOICE}")
    return IdentityError(
        "keyring.failed", f"The keyring failed ({type(error).__name__}: {error}).".replace("\n", " "), OTHER_CHOICE
    )


def _with(backend: str) -> KeyringBackend:
    """The backend that was chosen at login, loaded without searching for others. Raises IdentityError."""
    if backend not in BACKENDS:
        raise IdentityError("keyring.refused", f"The keyring backend {backend!r} is refused.", OTHER_CHOICE)
    _find_session_bus()
    import importlib  # noqa: PLC0415 - not for the quick way

    module, _, name = backend.rpartition(".")
    loaded: KeyringBackend = getattr(importlib.import_module(module), name)()
    return loaded


def _class_name(backend: KeyringBackend) -> str:
    return f"{type(backend).__module__}.{type(backend).__qualname__}"


def _find_session_bus() -> None:
    """Clients may start us with a bare environment; the session's bus has a well-known place."""
    if sys.platform == "linux" and not os.environ.get("DBUS_SESSION_BUS_ADDRESS"):
        bus = f"{os.environ.get('XDG_RUNTIME_DIR') or f'/run/user/{os.getuid()}'}/bus"
        with suppress(OSError):
            if stat.S_ISSOCK(os.stat(bus).st_mode):  # noqa: PTH116 - as above
                os.environ["DBUS_SESSION_BUS_ADDRESS"] = f"unix:path={bus}"
