"""Is this text a secret that somebody pasted? By its own look, and by the name that stands beside it.

Nothing here prints, and what it finds names places, never values.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from urllib.parse import parse_qsl, urlsplit

# A config may be anybody's, and long. So no pattern here reads on over what opens it anew, or without a bound: it
# would read the rest of the text once for each opening.
_REFERENCE = re.compile(  # a bare `$NAME` stands by itself: a dollar within a password is one of its characters
    r"\$\{[^{}]*\}|(?<![^\s:/@=,(])\$[A-Za-z_]\w*(?![^\s:/@=,)?&.-])|"
    r"\{env:[^{}]+\}|\{file:[^{}]+\}|%[A-Za-z_]\w*%|\$\((?:[^$\n]|\$(?!\())*\)|<[^<>]*>|"
    r"\{\{(?:[^{\n]|\{(?!\{))*\}\}"
)
_ISSUED = re.compile(
    r"""(?x)
    gh[pousr]_[A-Za-z0-9]{20,} | github_pat_\w{20,} | glpat-[\w-]{16,} | xox[abeoprs]-[\w-]{10,} | xapp-[\w-]{10,}
    | sk-[\w-]{16,} | [rs]k_(?:live|test)_\w{10,} | ntn_\w{20,} | secret_[A-Za-z0-9]{30,} | AKIA[0-9A-Z]{16}
    | AIza[\w-]{30,} | ya29\.[\w-]{20,} | lin_(?:api|oauth)_\w{20,} | tvly-[\w-]{16,} | fc-[0-9a-f]{24,}
    | pplx-\w{20,} | BSA[\w-]{20,} | hf_\w{20,} | npm_\w{30,} | pypi-[\w-]{20,} | dop_v1_\w{30,} | figd_[\w-]{20,}
    | ATATT[\w=-]{20,} | pat[\w-]{10,64}\.[0-9a-f]{30,} | shpat_\w{20,} | SG\.[\w-]{16,}\.[\w-]{16,} | r8_\w{20,}
    | eyJ(?:(?!eyJ)[\w-]){8,}\.[\w-]{8,}\.[\w-]* | -----BEGIN[ A-Z]*PRIVATE[ ]KEY-----
    """
)
_NAMED = re.compile(
    r"(?i)(?:^|[_.\-])(?:api[_-]?key|apikey|key|token|pat|secret|password|passwd|pwd|pass|auth|authorization|bearer"
    r"|credentials?|dsn|connection[_-]?string|database[_-]?ur[il])(?:$|[_.\-])"
)
_NOT_SECRET_NAME = re.compile(
    r"(?i)(?:_|-|^)(?:file|path|dir|name|id|url|uri|host|type|ttl|env(?:_var)?|endpoint|header|limit|max|expir\w{0,32})$"
)
_PLAIN_WORD = re.compile(r"(?i)true|false|yes|no|on|off|none|null|default|\d{1,6}|https?://[^@?#\s]*")
_PLACEHOLDER = re.compile(
    r"(?i)(?:your|my|insert|enter|replace|change|example|dummy|placeholder|todo|xxx|\*\*\*|\.\.\.)"
)
_FLAG = re.compile(r"--?[\w.-]+")
_LEAST_CHARACTERS = 8
_LEAST_RANDOM_CHARACTERS = 24
_RANDOM_BITS = 3.5


def is_reference(text: str) -> bool:
    """Whether a text only refers to a value that is kept elsewhere (`${TOKEN}`, `{env:TOKEN}`)."""
    left = _REFERENCE.sub("", text)
    return left != text and _ISSUED.search(left) is None and not _looks_random(left)


def is_issued_key(text: str) -> bool:
    """Whether a text holds a key in a well-known issuer's own format."""
    return _ISSUED.search(text) is not None


def is_secret(name: str, value: str) -> bool:
    """Whether a value beside a name is a pasted secret: an issuer's format, or a name that says so."""
    value = value.strip()
    if is_issued_key(value):
        return True
    if is_reference(value):
        return False
    if _has_credentials(value):
        return True
    if _PLAIN_WORD.fullmatch(value) or (_PLACEHOLDER.search(value) and not _looks_random(value)):
        return False
    if _NAMED.search(_separated(name)) and not _NOT_SECRET_NAME.search(_separated(name)):
        return len(value) >= _LEAST_CHARACTERS
    return _looks_random(value)


def may_be_shown(value: str) -> bool:
    """Whether a value beside a pasted secret is certainly none: a plain word, a number, an address, a reference."""
    return _PLAIN_WORD.fullmatch(value) is not None or is_reference(value)


def places_in_arguments(arguments: list[str]) -> list[tuple[int, str]]:
    """Which arguments hold a secret: their index, and what names it (`--api-key`, or nothing)."""
    found = []
    flag = ""  # the one that the next argument belongs to
    for index, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if equals and (_FLAG.fullmatch(name) or name.isidentifier()):
            if is_secret(name.lstrip("-"), value):
                found.append((index, name))
            flag = ""
        elif _FLAG.fullmatch(argument) and not is_issued_key(argument):
            flag = argument
        else:
            if _is_secret_argument(flag, argument):
                found.append((index, flag))
            flag = ""
    return found


def _is_secret_argument(flag: str, argument: str) -> bool:
    name, colon, value = argument.partition(":")
    if colon and name.replace("-", "").isalnum() and not value.startswith("//"):
        return is_secret_header(name, value)
    if flag:
        return is_secret(flag.lstrip("-"), argument)
    return is_issued_key(argument) or _has_credentials(argument)


def is_secret_header(name: str, value: str) -> bool:
    """Whether a header carries a secret: `Authorization: Bearer …`, `X-Api-Key: …`."""
    scheme, _, rest = value.strip().partition(" ")
    return is_secret(name, rest if rest and scheme.lower() in {"bearer", "basic", "token"} else value)


def is_secret_url(url: str) -> bool:
    """Whether a URL carries a secret: a password, a query parameter, or a path segment in an issuer's format."""
    return not is_reference(url) and (_has_credentials(url) or is_issued_key(url) or _has_secret_segment(url))


def _has_credentials(value: str) -> bool:
    """A URL with a password, or with a query parameter that is a secret."""
    if "://" not in value:
        return False
    try:
        parts = urlsplit(value)
        password = parts.password
        query = parse_qsl(parts.query)
    except ValueError:
        return False
    if password and not is_reference(password) and not _PLACEHOLDER.search(password):
        return True
    return any(is_secret(name, text) for name, text in query)


def _has_secret_segment(url: str) -> bool:
    try:
        segments = urlsplit(url).path.split("/")
    except ValueError:
        return False
    return any(_looks_random(segment) for segment in segments)


def _separated(name: str) -> str:
    """`apiKey` as `api_Key`, so that words can be told apart."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)


def _looks_random(value: str) -> bool:
    """Long, of letters and digits, and with as many different ones as chance would have it."""
    if len(value) < _LEAST_RANDOM_CHARACTERS or not re.fullmatch(r"[A-Za-z0-9+/_=.-]+", value):
        return False
    if not (re.search(r"\d", value) and re.search(r"[A-Za-z]", value)) or re.search(r"[a-z]{7}|[A-Z]{7}", value):
        return False
    counts = Counter(value)
    bits = -sum(count / len(value) * math.log2(count / len(value)) for count in counts.values())
    return bits >= _RANDOM_BITS or bool(re.fullmatch(r"[0-9a-f]{32,}", value))
