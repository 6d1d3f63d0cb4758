"""One call, put to the policies. Strictest wins: forbid, ask, permit; none matches: forbid; an error: forbid.

Cedar skips a policy whose evaluation errs, so that a forbid which errs would permit: here any error refuses.
"""

from __future__ import annotations

import datetime as dt
import decimal
import json
from collections import OrderedDict
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import cedarpy
import msgspec

from percall_broker.model.moments import stamp
from percall_broker.model.records import Limit  # noqa: TC001 - read where verdicts are

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from percall_broker.policy.language import Policies, Policy

MAX_ARGUMENTS_BYTES = 256 * 1024
"""The largest arguments that a policy may read."""
MAX_VALUES = 5000
_REMEMBERED = 4096
_CALL = "call"
_LARGEST, _SMALLEST = 2**63 - 1, -(2**63)
_TAGGED = ("Arguments", "Numbers", "Decimals", "Lists")
_READS_ARGUMENTS = frozenset({*map(str.lower, _TAGGED), "*"})
_PLACES, _MOST_DECIMAL = decimal.Decimal("0.0001"), decimal.Decimal("922337203685477.5807")
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

Entity = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """What is put to the policies. `subjects` are tools, prompts or URIs, of which each must be permitted.

    `kind` is tool, prompt, resource or task; `annotations` are the tool's own, where they are known.
    """

    person: str
    agent: str
    device: str
    groups: tuple[str, ...]
    server: str
    delivery: str
    method: str
    kind: str
    subjects: tuple[str, ...]
    client: str
    digest: str
    arguments: bytes
    annotations: tuple[tuple[str, bool], ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the policies say: permit, ask or forbid, by which policies, and why.

    `code` is policy.permit, policy.ask, policy.forbid, policy.none, policy.error or policy.size. `ask` are the groups
    of which each must approve, where `separate` not by whoever asks; `limits` hold for a permit, by the policy's id.
    `observed` is what it would be if the policies under `@observe` were enforced, empty where that is the same.
    """

    effect: str
    code: str
    message: str
    policies: tuple[str, ...] = ()
    ask: tuple[str, ...] = ()
    separate: bool = False
    limits: tuple[tuple[str, Limit], ...] = ()
    observed: str = ""


_always_read = attrgetter(
    *(field.name for field in fields(Asked) if field.name not in {"arguments", "digest", "client"})
)
"""All of a call that a verdict may have been read from, but for what only some policies read."""
_PERMIT = Verdict("permit", "policy.permit", "The policies permit it.")
_ORDER = {"forbid": 0, "ask": 1, "permit": 2}


class Evaluator:
    """Puts calls to policies; remembers verdicts by all that they were read from."""

    def __init__(self) -> None:
        self._remembered: OrderedDict[Any, tuple[Policies, Verdict]] = OrderedDict()

    def __call__(self, policies: Policies, asked: Asked, now: float) -> Verdict:
        """The verdict on one call."""
        reads = policies.reads
        if reads & {"now", "*"}:
            return _verdict(policies, asked, now)
        key = (
            _always_read(asked),
            asked.digest if reads & _READS_ARGUMENTS else "",
            asked.client if "client" in reads else "",
            int(now // 3600) if reads & {"hour", "weekday"} else 0,
        )
        known = self._remembered.get(key)
        if known is None or known[0] is not policies:
            known = self._remembered[key] = (policies, _verdict(policies, asked, now))
            if len(self._remembered) > _REMEMBERED:
                self._remembered.popitem(last=False)
        return known[1]


def _verdict(policies: Policies, asked: Asked, now: float) -> Verdict:
    entities: list[Entity] = []
    if policies.reads & _READS_ARGUMENTS:
        if len(asked.arguments) > MAX_ARGUMENTS_BYTES:
            return _too_large()
        try:
            entities += _of_arguments(asked.arguments)
        except ValueError:
            return _too_large()
    else:
        entities += [_tagged(kind, {}) for kind in _TAGGED]
    entities += _of_principal(asked)
    context = _context(asked, now)
    verdicts = []
    for action, resource in _targets(asked):
        request = {
            "principal": {"type": "Agent", "id": f"{asked.person}/{asked.agent}"},
            "action": {"type": "Action", "id": action},
            "resource": resource["uid"],
            "context": context,
        }
        others = [entity for entity in entities if entity["uid"] != resource["uid"]]
        verdicts.append(_one(policies, request, [*others, resource]))
    strictest = min(verdicts, key=lambda one: _ORDER[one.effect])
    if strictest.effect == "forbid":
        return strictest
    return replace(
        strictest,
        policies=tuple(dict.fromkeys(name for one in verdicts for name in one.policies)),
        ask=tuple(dict.fromkeys(group for one in verdicts for group in one.ask)),
        separate=any(one.separate for one in verdicts),
        limits=tuple(dict.fromkeys(limit for one in verdicts for limit in one.limits)),
        observed=next((one.observed for one in verdicts if one.observed), ""),
    )


def _one(policies: Policies, request: dict[str, Any], entities: list[Entity]) -> Verdict:
    text = json.dumps(entities)
    verdict = _enforced(policies, cedarpy.is_authorized(request, policies.enforced, text))
    if policies.all_of_them is None:
        return verdict
    observed = _enforced(policies, cedarpy.is_authorized(request, policies.all_of_them, text))
    if (observed.effect, observed.ask) == (verdict.effect, verdict.ask):
        return verdict
    return replace(verdict, observed=f"{observed.effect} by {', '.join(observed.policies) or 'no policy'}")


def _enforced(policies: Policies, result: cedarpy.AuthzResult) -> Verdict:
    errors = result.diagnostics.errors
    if errors:
        named = [name for name in policies.policies if any(f"`{name}`" in error for error in errors)]
        return Verdict(
            "forbid",
            "policy.error",
            f"The policy {' and '.join(named) or '?'} could not be evaluated for this call.",
            tuple(named),
        )
    found = [policies.policies[name] for name in sorted(result.diagnostics.reasons)]
    names = tuple(policy.id for policy in found)
    if not result.allowed:
        if not found:
            return Verdict("forbid", "policy.none", "No policy permits this.")
        return Verdict("forbid", "policy.forbid", _because(found), names)
    limits = tuple((policy.id, policy.limit) for policy in found if policy.limit)
    ask = tuple(dict.fromkeys(policy.ask for policy in found if policy.ask))
    if ask:
        asking = [policy for policy in found if policy.ask]
        separate = any(policy.separate for policy in asking)
        return Verdict("ask", "policy.ask", _because(asking), names, ask, separate, limits)
    return replace(_PERMIT, policies=names, limits=limits)


def _because(policies: Sequence[Policy]) -> str:
    reasons = [policy.reason for policy in policies if policy.reason]
    return " ".join(reasons) or f"The policy {' and '.join(policy.id for policy in policies)} says so."


def _too_large() -> Verdict:
    return Verdict("forbid", "policy.size", "The call's arguments are too large for the policies to read.")


# --- entities ---------------------------------------------------------------------------------------------------------


def _targets(asked: Asked) -> Iterator[tuple[str, Entity]]:
    """The action and the resource of each subject."""
    server = {"type": "Server", "id": asked.server}
    if asked.kind == "task" or not asked.subjects:
        yield "tasks", _entity("Server", asked.server, {"delivery": asked.delivery})
        return
    kind = asked.kind.capitalize()
    for subject in asked.subjects:
        attributes: dict[str, Any] = {"uri" if asked.kind == "resource" else "name": subject}
        if asked.kind == "tool":
            attributes |= dict(asked.annotations)
        yield asked.method, _entity(kind, f"{asked.server}/{subject}", attributes, [server])


def _of_principal(asked: Asked) -> list[Entity]:
    person = {"type": "Person", "id": asked.person}
    groups = [{"type": "Group", "id": group} for group in asked.groups]
    agent = {"name": asked.agent, "device": asked.device}
    return [
        _entity("Agent", f"{asked.person}/{asked.agent}", agent, [person]),
        _entity("Person", asked.person, {}, groups),
        _entity("Server", asked.server, {"delivery": asked.delivery}),
    ]


def _of_arguments(arguments: bytes) -> list[Entity]:
    """Raises ValueError when there are too many values."""
    texts: dict[str, str] = {}
    numbers: dict[str, int] = {}
    decimals: dict[str, Entity] = {}
    lists: dict[str, list[str]] = {}
    members = (msgspec.json.decode(arguments) if arguments else None) or {}
    pending: list[tuple[str, Any]] = [(_escaped(name), member) for name, member in members.items()]
    while pending:
        path, value = pending.pop()
        if len(texts) + len(lists) + len(pending) > MAX_VALUES:
            raise ValueError
        if isinstance(value, dict):
            pending += [(f"{path}/{_escaped(name)}", member) for name, member in value.items()]
        elif isinstance(value, list):
            pending += [(f"{path}/{index}", item) for index, item in enumerate(value)]
            # Whatever else is in it: else one null beside them would hide the others from a policy that forbids one.
            lists[path] = [_text(item) for item in value]
        elif value is not None:
            texts[path] = _text(value)
            if type(value) in {int, float}:
                decimals[path] = _decimal(value)
            if type(value) is int or (type(value) is float and value.is_integer()):
                # Beyond what Cedar counts to, its last number: larger and smaller stay what they are.
                numbers[path] = min(max(int(value), _SMALLEST), _LARGEST)
    tags: tuple[dict[str, Any], ...] = (texts, numbers, decimals, lists)
    return [_tagged(kind, found) for kind, found in zip(_TAGGED, tags, strict=True)]


def _escaped(name: str) -> str:
    """A name as a part of a path, in JSON pointer's escapes (RFC 6901), so that no two values share a path."""
    return name.replace("~", "~0").replace("/", "~1")


def _decimal(value: float) -> Entity:
    """A number as Cedar's decimal: further places are rounded away from zero, so that what is over a limit stays so."""
    bounded = min(max(decimal.Decimal(repr(value)), -_MOST_DECIMAL), _MOST_DECIMAL)
    rounded = bounded.quantize(_PLACES, rounding=decimal.ROUND_UP)
    return {"__extn": {"fn": "decimal", "arg": f"{rounded:f}"}}


def _text(value: Any) -> str:
    """A plain value as a policy compares it; what is none, by its brackets alone."""
    if isinstance(value, (dict, list)):
        value = type(value)()
    return value if isinstance(value, str) else json.dumps(value)


def _entity(kind: str, name: str, attributes: dict[str, Any], parents: Sequence[dict[str, str]] = ()) -> Entity:
    return {"uid": {"type": kind, "id": name}, "attrs": attributes, "parents": list(parents)}


def _tagged(kind: str, tags: dict[str, Any]) -> Entity:
    return {**_entity(kind, _CALL, {}), "tags": tags}


def _context(asked: Asked, now: float) -> dict[str, Any]:
    moment = dt.datetime.fromtimestamp(int(now), dt.UTC)
    return {
        **{name.lower(): {"__entity": {"type": name, "id": _CALL}} for name in _TAGGED},
        "now": {"__extn": {"fn": "datetime", "arg": stamp(int(now))}},
        "hour": moment.hour,
        "weekday": _WEEKDAYS[moment.weekday()],
        "client": asked.client,
    }
