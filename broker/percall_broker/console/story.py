"""One call's story, as its page tells it: the rows of the log that belong to it, each a step with its words."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from percall_broker.crypto.proofs import digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_TONES = {
    "permit": "good",
    "forbid": "bad",
    "ask": "warn",
    "done": "good",
    "failed": "bad",
    "refused": "bad",
    "unknown": "warn",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One row. `tone` is good, bad, warn, or empty; `facts` are names with values, for the curious."""

    time_ms: int
    after_ms: int
    title: str
    words: str
    tone: str = ""
    facts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Story:
    """The call's own row, and all steps in order. `outcome` is empty while the call is open; `approval` names what it
    waits, or waited, for.
    """

    call: dict[str, Any]
    steps: tuple[Step, ...]
    outcome: str
    duration_ms: int
    approval: str = ""


@dataclass(frozen=True, slots=True)
class Arguments:
    """A call's arguments as they were sent; `pretty` the same values with line breaks, where that is JSON."""

    text: str
    pretty: str
    size: int
    digest: str


def of(entries: Sequence[dict[str, Any]], approval_state: str = "") -> Story:
    """The story of a call's entries, oldest first; of one that was asked about, with what became of its approval."""
    first = entries[0]
    steps = tuple(_step(entry, first["time_ms"]) for entry in entries)
    outcomes = [entry for entry in entries if entry["kind"] == "outcome"]
    ended = {"forbid": "refused", "ask": became(approval_state) or "asked"}.get(str(first.get("decision")), "")
    outcome = outcomes[0]["outcome"] if outcomes else ended
    approval = str(first.get("waits_for", "")) if approval_state else ""  # one that is long over has no page
    return Story(first, steps, outcome, outcomes[0]["duration_ms"] if outcomes else 0, approval)


def became(approval_state: str) -> str:
    """What became of a call that was asked about. That its approval was used is another call's story."""
    return "allowed" if approval_state == "used" else approval_state


def arguments_of(text: str) -> Arguments:
    """Arguments to be shown."""
    try:
        numbers: dict[str, Any] = dict.fromkeys(("parse_float", "parse_int", "parse_constant"), _Verbatim)
        pretty = "".join(_pretty(json.loads(text, **numbers))) if text else ""
    except (ValueError, RecursionError):
        pretty = text
    encoded = text.encode("utf-8", "surrogatepass")
    return Arguments(text, pretty, len(encoded), digest(encoded))


class _Verbatim(str):
    """A number as it was written: 1e2 is not shown as 100.0, nor 1.00000000000000000001 as 1."""

    __slots__ = ()


def _pretty(value: Any, margin: str = "\n") -> Iterator[str]:
    """JSON with line breaks. Escapes are shown as the characters that they stand for."""
    inner = margin + "  "
    if isinstance(value, dict) and value:
        for i, (name, member) in enumerate(value.items()):
            yield ("," if i else "{") + inner + json.dumps(name, ensure_ascii=False) + ": "
            yield from _pretty(member, inner)
        yield margin + "}"
    elif isinstance(value, list) and value:
        for i, member in enumerate(value):
            yield ("," if i else "[") + inner
            yield from _pretty(member, inner)
        yield margin + "]"
    else:
        yield str(value) if isinstance(value, _Verbatim) else json.dumps(value, ensure_ascii=False)


def _step(entry: dict[str, Any], start_ms: int) -> Step:
    title, words, tone, facts = _KINDS.get(entry["kind"], _other)(entry)
    shown = tuple((name, str(value)) for name, value in facts if value not in ("", None, [], {}))
    return Step(entry["time_ms"], entry["time_ms"] - start_ms, title, words, tone, shown)


_Told = tuple[str, str, str, list[tuple[str, Any]]]


def _call(entry: dict[str, Any]) -> _Told:
    title = {"permit": "Permitted", "ask": "Asked", "forbid": "Refused"}[entry["decision"]]
    become = {"permit": "was permitted", "ask": "has to be approved", "forbid": "was refused"}[entry["decision"]]
    policies = ", ".join(entry.get("policies", []))
    approved = entry.get("approval", {})
    return (
        title,
        f"{entry['method']} {entry['tool']} {become}: {entry['reason']}.",
        _TONES[entry["decision"]],
        [
            *((f"approval's {name}", value) for name, value in approved.items()),
            ("policies", policies),
            ("policy version", entry.get("policy_version", 0)),
            ("observed", entry.get("observed", "")),
            ("client, as it says", entry.get("client", "")),
            ("arguments' digest", entry.get("arguments", "")),
            ("delivery", entry.get("delivery", "")),
            ("grant", entry["grant_id"]),
            ("device key", entry.get("device", "")),
        ],
    )


def _redemption(entry: dict[str, Any]) -> _Told:
    return "Window opened", "The call credential was used, once.", "", [("request", entry.get("request", ""))]


def _request(entry: dict[str, Any]) -> _Told:
    permitted = entry["decision"] == "permit"
    how = "with the key" if entry.get("keyed", True) else "without the key: it stood in no slot of the entry"
    tail = f"went out {how}." if permitted else f"was refused: {entry['reason']}."
    shared = entry.get("calls", [])
    return (
        "API request" if permitted else "API request refused",
        f"{entry['method']} {entry['url']} {tail}",
        "" if permitted else "bad",
        [
            ("rule", entry["reason"]),
            ("shared with calls", ", ".join(shared[1:])),
            ("key", f"version {entry['secret_version']}" if entry.get("secret_version") else ""),
        ],
    )


def _outcome(entry: dict[str, Any]) -> _Told:
    words = {
        "done": "The tool answered.",
        "failed": "The tool answered with an error.",
        "refused": "The call was refused.",
        "unknown": "Nobody reported how it ended; it is never repeated.",
    }
    observed = entry.get("observed", {})
    facts = [(f"observed {name}", value) for name, value in observed.items()] if isinstance(observed, dict) else []
    return (
        str(entry["outcome"]).capitalize(),
        words.get(entry["outcome"], ""),
        _TONES.get(entry["outcome"], ""),
        [*facts, ("settled by", entry.get("reason", ""))],
    )


def _change(entry: dict[str, Any]) -> _Told:
    details = entry.get("details", {})
    tone = {"approval.allow": "good", "approval.deny": "bad", "approval.never": "bad"}.get(entry["action"], "")
    words = {"approval.allow": "allowed it", "approval.deny": "denied it", "approval.never": "refused it for good"}
    told = words.get(entry["action"], entry["action"])
    facts = [("presence", entry.get("presence", "")), *details.items()]
    return "Answered" if tone else "Changed", f"{entry['person']} {told}.", tone, facts


def _reading(entry: dict[str, Any]) -> _Told:
    return "Arguments read", f"{entry['person']} read the arguments.", "", [("action", entry.get("action", ""))]


def _other(entry: dict[str, Any]) -> _Told:
    names = sorted(set(entry) - {"kind", "time_ms", "details", "id", "call"})
    words = str(entry.get("action") or entry.get("reason") or entry["kind"])
    return str(entry["kind"]).capitalize(), words, "", [(name, entry[name]) for name in names]


_KINDS = {
    "call": _call,
    "redemption": _redemption,
    "request": _request,
    "outcome": _outcome,
    "reading": _reading,
    "change": _change,
}
