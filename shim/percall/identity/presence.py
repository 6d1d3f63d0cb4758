"""A person's presence: a key that their passphrase opens, for what a device's signature alone must not do.

The passphrase is typed at the process's own terminal, never read from a pipe, a file or a variable, which a program
could fill; the key is derived from it for one command and forgotten with it. Argon2id makes each guess cost.
"""

from __future__ import annotations

import getpass
import os
import sys
import unicodedata
import warnings

from nacl.bindings import crypto_sign, crypto_sign_BYTES, crypto_sign_seed_keypair, crypto_sign_SEEDBYTES
from nacl.exceptions import CryptoError
from nacl.pwhash import argon2id

from percall import wire
from percall.errors import IdentityError
from percall.identity.prompts import hidden
from percall.proof import base64url, from_base64url

LEAST_CHARACTERS = 12
"""Length is what a guesser pays for; rules about characters only make people predictable."""
PASSES, MEMORY_BYTES = argon2id.OPSLIMIT_MODERATE, argon2id.MEMLIMIT_MODERATE
"""For new keys: 3 passes over 256 MiB. Each key keeps its own."""
PROMPT = "Your Percall passphrase: "
_MOST_CHARACTERS = 1024


class PresenceSigner:
    """A presence key that was opened. Its repr shows nothing of it."""

    def __init__(self, passphrase: str, stretch: wire.Stretch) -> None:
        if not wire.is_bounded(stretch):
            raise IdentityError(
                "presence.stretch",
                "The broker names a derivation that is cheap to guess, or more than this machine should do.",
                "Upgrade percall; if it stays so, tell your administrator.",
            )
        try:
            salt = from_base64url(stretch.salt)
            seed = argon2id.kdf(
                crypto_sign_SEEDBYTES, _normal(passphrase).encode(), salt, stretch.passes, stretch.memory_bytes
            )
        except (ValueError, CryptoError):
            raise IdentityError("presence.stretch", "The broker's salt is damaged, or memory is short.") from None
        public, self._secret = crypto_sign_seed_keypair(seed)
        self.key = wire.PresenceKey(stretch, base64url(public))

    def sign(self, text: bytes) -> str:
        """The signature over a text of `wire.presence_text`, in base64url."""
        return base64url(crypto_sign(text, self._secret)[:crypto_sign_BYTES])


def from_terminal(stretch: wire.Stretch, prompt: str = PROMPT) -> PresenceSigner:
    """The key that the passphrase typed at the terminal opens. Raises IdentityError."""
    return PresenceSigner(_typed(prompt), stretch)


def new_at_terminal(prompt: str, *, may_skip: bool = False) -> PresenceSigner | None:
    """A key for a new passphrase, typed twice; None where it may be skipped, and nothing was typed.

    Raises IdentityError.
    """
    typed = _typed(prompt)
    if not typed and may_skip:
        return None
    if len(_normal(typed)) < LEAST_CHARACTERS:
        raise IdentityError(
            "presence.short",
            f"A passphrase has at least {LEAST_CHARACTERS} characters; nothing was changed.",
            "Four or five words that have nothing to do with one another are easy to remember.",
        )
    if _typed("The same again: ") != typed:
        raise IdentityError("presence.differs", "The two passphrases differ; nothing was changed.", "Try again.")
    salt = os.urandom(argon2id.SALTBYTES)
    return PresenceSigner(typed, wire.Stretch("passphrase", base64url(salt), PASSES, MEMORY_BYTES))


def has_terminal() -> bool:
    """Whether there is a terminal to ask at, whatever standard input and output are."""
    if sys.platform == "win32":
        return sys.stdin is not None and sys.stdin.isatty()
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def require_possible(session: wire.Session) -> None:
    """Raises IdentityError where a person has no passphrase, or there is no terminal to type it at."""
    if session.stretch is None:
        raise unset(session)
    if not has_terminal():
        raise _missing()


def unset(session: wire.Session | None = None) -> IdentityError:
    """Nobody has set a passphrase. A machine may have several people's logins, so a session says whose it is."""
    if session is None:
        return IdentityError(
            "presence.unset",
            "You have set no passphrase, so nothing can be changed in your name.",
            "Ask an administrator for a new invite, and log in with it at a terminal.",
        )
    return IdentityError(
        "presence.unset",
        f"{session.person}, whose agent {session.agent} this is, has set no passphrase.",
        "Name another login with --agent; or ask an administrator for a new invite, and log in with it at a terminal.",
    )


def _missing() -> IdentityError:
    return IdentityError(
        "presence.no_terminal",
        "This needs your passphrase, and there is no terminal to type it at; a pipe is not read.",
        "Run the command at a terminal.",
    )


def _typed(prompt: str) -> str:
    if not has_terminal():
        raise _missing()
    with warnings.catch_warnings():
        warnings.simplefilter("error", getpass.GetPassWarning)  # it would read standard input, and echo
        try:
            typed = hidden(prompt)
        except (OSError, getpass.GetPassWarning):
            raise _missing() from None
    if len(typed) > _MOST_CHARACTERS:
        raise IdentityError("presence.long", f"A passphrase has at most {_MOST_CHARACTERS} characters.")
    return typed


def _normal(passphrase: str) -> str:
    """One form for the same characters, whichever keyboard they come from."""
    return unicodedata.normalize("NFKC", passphrase)
