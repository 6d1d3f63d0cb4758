"""Where the key goes: into a declared slot, where exactly the placeholder stands, and nowhere else.

The bytes around a replaced placeholder are not touched. A slot without the placeholder gets nothing, and what stands
in such a header is not sent on: a child has no identity of its own towards the upstream.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus, unquote_plus

from percall import wire
from percall.errors import WireError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from percall_broker.model.entry import Slot

MAX_OCCURRENCES = 16
"""A JSON body that holds the placeholder more often is left as it is."""

_FORM = "application/x-www-form-urlencoded"
_CALLERS_IDENTITY = frozenset({"authorization"})


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An API request on its way to the upstream. With the key in it: SECRET, never log.

    `body` is None where no body slot is declared, as the body then passes unread.
    """

    headers: tuple[tuple[str, str], ...]
    query: str | None
    body: bytes | None = None

    def __repr__(self) -> str:
        """Nothing of the key."""
        return "Outgoing()"


def needs_body(slots: Sequence[Slot]) -> bool:
    """Whether a slot is in the body, so that the body must be read."""
    return any(slot.kind in {"json", "form"} for slot in slots)


def inject(slots: Sequence[Slot], placeholder: str, key: str, request: Outgoing) -> tuple[Outgoing, bool]:
    """The request with the key in its slots, and whether it went into any."""
    touched: set[str] = set()
    used = False
    for slot in slots if placeholder else ():
        changed = _INJECTORS[slot.kind](slot, placeholder, key, request)
        if changed is not None:
            request = changed
            used = True
            if slot.kind in {"header", "basic"}:
                touched.add(_header_name(slot))
    withheld = (
        _CALLERS_IDENTITY | {_header_name(slot) for slot in slots if slot.kind in {"header", "basic"}}
    ) - touched
    headers = tuple((name, value) for name, value in request.headers if name.lower() not in withheld)
    return replace(request, headers=headers), used


def _header_name(slot: Slot) -> str:
    return "authorization" if slot.kind == "basic" else slot.name.lower()


def _formatted(slot: Slot, value: str) -> str:
    return slot.format.replace("{key}", value)


def _into_only_header(request: Outgoing, name: str, rewrite: Callable[[str], str | None]) -> Outgoing | None:
    """Rewrites a header that occurs once; one that occurs twice could be read in two ways, and gets nothing."""
    places = [at for at, (header, _) in enumerate(request.headers) if header.lower() == name]
    if len(places) != 1:
        return None
    at = places[0]
    value = rewrite(request.headers[at][1])
    if value is None:
        return None
    headers = (*request.headers[:at], (request.headers[at][0], value), *request.headers[at + 1 :])
    return replace(request, headers=headers)


def _inject_header(slot: Slot, placeholder: str, key: str, request: Outgoing) -> Outgoing | None:
    expected = _formatted(slot, placeholder)

    def rewrite(value: str) -> str | None:
        return _formatted(slot, key) if _same_header(value.strip(" \t"), expected) else None

    return _into_only_header(request, slot.name.lower(), rewrite)


def _same_header(value: str, expected: str) -> bool:
    """Exactly; the scheme's name before the first space in any case of letters (RFC 9110, 11.1)."""
    scheme, space, rest = expected.partition(" ")
    if space and scheme.lower() in {"bearer", "basic"}:
        given_scheme, _, given = value.partition(" ")
        return given_scheme.lower() == scheme.lower() and given.lstrip(" ") == rest
    return value == expected


def _inject_basic(slot: Slot, placeholder: str, key: str, request: Outgoing) -> Outgoing | None:
    expected, real = _formatted(slot, placeholder), _formatted(slot, key)

    def rewrite(value: str) -> str | None:
        scheme, _, encoded = value.strip(" \t").partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            username, colon, password = base64.b64decode(encoded.strip(" "), validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        if not colon:
            return None
        if slot.name == "username" and username == expected:
            username = real
        elif slot.name == "password" and password == expected:
            password = real
        else:
            return None
        return f"{scheme} {base64.b64encode(f'{username}:{password}'.encode()).decode()}"

    return _into_only_header(request, "authorization", rewrite)


def _inject_query(slot: Slot, placeholder: str, key: str, request: Outgoing) -> Outgoing | None:
    if request.query is None:
        return None
    # %20 rather than +: some servers read a plus in a query as a plus.
    query = _into_pairs(request.query, slot, placeholder, quote(_formatted(slot, key), safe=""))
    return None if query is None else replace(request, query=query)


def _inject_form(slot: Slot, placeholder: str, key: str, request: Outgoing) -> Outgoing | None:
    if request.body is None or _content_type(request) != _FORM or _is_encoded(request):
        return None
    body = _into_pairs(request.body.decode("latin-1"), slot, placeholder, quote_plus(_formatted(slot, key)))
    return None if body is None else replace(request, body=body.encode("latin-1"))


def _into_pairs(text: str, slot: Slot, placeholder: str, real: str) -> str | None:
    expected = _formatted(slot, placeholder)
    pairs = text.split("&")
    places = [at for at, pair in enumerate(pairs) if unquote_plus(pair.partition("=")[0]) == slot.name]
    if len(places) != 1:
        return None
    at = places[0]
    name, _, value = pairs[at].partition("=")
    if unquote_plus(value) != expected:
        return None
    pairs[at] = f"{name}={real}"
    return "&".join(pairs)


def _inject_json(slot: Slot, placeholder: str, key: str, request: Outgoing) -> Outgoing | None:
    media = _content_type(request)
    if request.body is None or _is_encoded(request) or not (media == "application/json" or media.endswith("+json")):
        return None
    real = _formatted(slot, key)
    written = json.dumps(_formatted(slot, placeholder)).encode()
    pieces = request.body.split(written)
    if not 1 < len(pieces) <= MAX_OCCURRENCES + 1:
        return None
    # Which of the places is the slot's? Each is given a name, and the pointer finds one. So nothing but the
    # placeholder's own bytes is written anew: numbers, order and spaces stay as the child wrote them.
    names = [f"{placeholder}.{number}" for number in range(1, len(pieces))]
    named = b"".join(json.dumps(name).encode() + piece for name, piece in zip(names, pieces[1:], strict=True))
    found = _value_at(pieces[0] + named, slot.name)
    if found not in names:
        return None
    place = names.index(found) + 1
    body = json.dumps(real).encode().join(written.join(part) for part in (pieces[:place], pieces[place:]))
    # Once more, as it will be sent: members that differ by those names alone would be one and the same in it.
    return replace(request, body=body) if _value_at(body, slot.name) == real else None


def _value_at(body: bytes, pointer: str) -> Any:
    """What a JSON pointer (RFC 6901) finds; None for nothing, and for a body that is not strict JSON."""
    try:
        value = wire.strict_json(body)
    except WireError:
        return None
    for token in pointer.split("/")[1:]:
        step = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isascii() and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def _content_type(request: Outgoing) -> str:
    return _header(request, "content-type").partition(";")[0].strip().lower()


def _is_encoded(request: Outgoing) -> bool:
    return _header(request, "content-encoding").strip().lower() not in {"", "identity"}


def _header(request: Outgoing, name: str) -> str:
    return next((value for header, value in request.headers if header.lower() == name), "")


_INJECTORS: dict[str, Callable[[Slot, str, str, Outgoing], Outgoing | None]] = {
    "header": _inject_header,
    "basic": _inject_basic,
    "query": _inject_query,
    "json": _inject_json,
    "form": _inject_form,
}
