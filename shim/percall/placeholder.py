"""What a child holds in a key's place: the key's own format, with random letters and digits where the key differs.

It goes into variables that somebody accepted, and whoever shows it is taken for the child. So it is a short plain text
that nobody guesses, which the broker asks of an entry, and the laptop of a broker.
"""

from __future__ import annotations

import os
import re

MIN_RANDOM_CHARACTERS = 16
MAX_CHARACTERS = 512
_RANDOM = re.compile(r"\{random:(\d{1,4})\}")
_AROUND = re.compile(r"[A-Za-z0-9._~+/=:@#%!*,?^\[\]()-]*")
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def objection(pattern: str) -> str:
    """Why a format makes no placeholder, as the end of a sentence; empty where it does."""
    around = _RANDOM.sub("", pattern)
    sizes = [int(size) for size in _RANDOM.findall(pattern)]
    if "{" in around or "}" in around:
        return "only {random:N} is replaced there"
    if not _AROUND.fullmatch(around):
        return "it is of ASCII letters, digits and marks that no shell reads"
    if sum(sizes) < MIN_RANDOM_CHARACTERS:
        return f"it must hold {{random:N}}, with N of {MIN_RANDOM_CHARACTERS} or more in all, to be unguessed"
    if len(around) + sum(sizes) > MAX_CHARACTERS:
        return f"it has {MAX_CHARACTERS} characters at most"
    return ""


def make(pattern: str) -> str:
    """A placeholder of a format that nothing is said against: `{random:N}` becomes N random letters and digits."""
    return _RANDOM.sub(lambda found: _random_text(int(found[1])), pattern)


def _random_text(length: int) -> str:
    text = ""
    while len(text) < length:
        # Bytes past the last whole alphabet are dropped: each character is equally likely.
        text += "".join(_ALPHABET[byte % 62] for byte in os.urandom(length) if byte < 248)  # noqa: PLR2004
    return text[:length]
