"""Policies as text: read, named, located, and checked against the schema. What does not hold is told with its line."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cedarpy

from percall import wire
from percall_broker.model.errors import InvalidInput
from percall_broker.model.records import Limit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SCHEMA_FILE = Path(__file__).parent / "schema.cedarschema"
BUILT_IN = {
    "built-in.cedar": """// What holds until policies are applied: a call that a grant permits is permitted.
@id("what-the-grant-permits")
permit(principal, action, resource);
"""
}
MAX_FILES = 500
MAX_CHARACTERS = 2 * 1024 * 1024
MAX_POLICIES = 10_000
MAX_TEXT = 1024
"""The characters of one string: `like` takes as many steps as its pattern and what it looks at are long, multiplied."""
_ANNOTATIONS = frozenset({"id", "ask", "separate", "limit", "reason", "observe"})
_LIMIT = re.compile(r"([1-9]\d{0,6})/(minute|hour|day)")
_SECONDS = {"minute": 60, "hour": 3600, "day": 86400}
LONGEST_LIMIT_SECONDS = max(_SECONDS.values())
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,99}")
_ACTION = re.compile(r' for Action::"[^"]*"')
# One token that matters for telling policies apart; strings and comments may hold anything. A comment ends where
# Cedar's does, at a carriage return too: what follows would be left out in silence, a `forbid` included. A string that
# is not closed goes to the end, so that each character is looked at once.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"?|//[^\n\r]*|;|[^\s";/]+|/', re.DOTALL)
# Cedar's parser recurses in native code, where too deep ends the process. Its JSON form ends at 128 levels, two or
# more for each of these; what one policy may hold of them is counted before Cedar sees it.
MAX_NESTING = 60
MAX_OPERATORS = 1000
_BRACKET = re.compile(r"[(\[{}\])]")
_OPERATOR = re.compile(r"&&|\|\||[.+*\[(-]|\b(?:if|when|unless)\b")
_TOO_DEEP = (
    f"nests more than {MAX_NESTING} expressions, or holds more than {MAX_OPERATORS} operators; "
    "compare with a set, as in [...].contains(...), or write several policies"
)


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy. `id` names it for people; `ask` is the group that must approve, empty for none.

    `separate`: whoever asks does not approve.
    """

    id: str
    file: str
    line: int
    effect: str
    ask: str = ""
    separate: bool = False
    limit: Limit | None = None
    reason: str = ""
    observed: bool = False


@dataclass(frozen=True, slots=True)
class Policies:
    """A set of policies, parsed once. `reads` names the members of the context that any of them reads.

    `enforced` decides; `all_of_them` says what would be decided if those under `@observe` were enforced too.
    """

    version: int
    files: Mapping[str, str] = field(hash=False)
    policies: Mapping[str, Policy] = field(hash=False)
    reads: frozenset[str]
    enforced: cedarpy.PolicySet = field(repr=False, compare=False)
    all_of_them: cedarpy.PolicySet | None = field(repr=False, compare=False)


def read(files: Mapping[str, str], version: int) -> Policies:
    """The policies of some files. Raises InvalidInput, whose sentence names file, line and reason of each problem."""
    if len(files) > MAX_FILES or sum(map(len, files.values())) > MAX_CHARACTERS:
        raise InvalidInput("policy.size", f"More than {MAX_FILES} files, or {MAX_CHARACTERS} characters.")
    problems: list[str] = []
    policies: dict[str, Policy] = {}
    bodies: dict[str, Any] = {}
    for file, text in sorted(files.items()):
        for line, body in _bodies(file, text, problems):
            policy = _policy(file, line, body, problems)
            other = policies.get(policy.id)
            if other is not None and "id" in body.get("annotations", {}):
                problems.append(f"{file}:{line}: the id {policy.id!r} is that of {other.file}:{other.line} already")
            elif other is not None:  # a line that holds several
                policy = replace(policy, id=f"{policy.id}#{len(policies)}")
            policies[policy.id] = policy
            bodies[policy.id] = body
    problems += _unsound(policies, bodies)
    if problems:
        raise InvalidInput("policy.invalid", "The policies do not hold. " + "; ".join(problems) + ".")
    enforced = {name: body for name, body in bodies.items() if not policies[name].observed}
    return Policies(
        version=version,
        files=dict(files),
        policies=policies,
        reads=frozenset(_reads(list(bodies.values()))),
        enforced=_policy_set(enforced),
        all_of_them=_policy_set(bodies) if len(enforced) < len(bodies) else None,
    )


@lru_cache(maxsize=1)
def schema() -> cedarpy.Schema:
    """The published schema."""
    return cedarpy.Schema.from_str(SCHEMA_FILE.read_text(encoding="utf-8"))


def _bodies(file: str, text: str, problems: list[str]) -> Iterator[tuple[int, Any]]:
    """Each policy of a file: its line, and Cedar's JSON form of it."""
    for number, (line, piece) in enumerate(_pieces(text)):
        if number == MAX_POLICIES:
            raise InvalidInput("policy.size", f"{file} has more than {MAX_POLICIES} policies.")
        if objection := _objection(piece):
            problems.append(f"{file}:{line}: {objection}")
            continue
        try:
            read_back = json.loads(cedarpy.policies_to_json_str(piece))
        except RecursionError:
            problems.append(f"{file}:{line}: {_TOO_DEEP}")
            continue
        except ValueError as error:
            problems.append(f"{file}:{line}: {error}")
            continue
        if read_back["templates"]:
            problems.append(f"{file}:{line}: templates are not used here")
        for body in read_back["staticPolicies"].values():
            yield line, body


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """The policies of a text one by one, each with the line that it begins at."""
    start, line, counted = -1, 1, 0
    for token in _TOKEN.finditer(text):
        if token[0].startswith("//"):
            continue
        if start < 0:
            start = token.start()
            line += text.count("\n", counted, start)
            counted = start
        if token[0] == ";":
            yield line, text[start : token.end()]
            start = -1
    if start >= 0:
        yield line, text[start:]


def _objection(piece: str) -> str:
    """Why a policy is not given to Cedar, empty when it is: its parser may run out of its stack, or a comparison of
    time.
    """
    depth = operators = 0
    for token in _TOKEN.finditer(piece):
        if token[0].startswith('"') and len(token[0]) > MAX_TEXT:
            return f"holds a string of more than {MAX_TEXT} characters"
        if token[0].startswith(('"', "//")):
            continue
        operators += len(_OPERATOR.findall(token[0]))
        for bracket in _BRACKET.findall(token[0]):
            depth += 1 if bracket in "([{" else -1
            if depth > MAX_NESTING:
                return _TOO_DEEP
    return _TOO_DEEP if operators > MAX_OPERATORS else ""


def _policy(file: str, line: int, body: dict[str, Any], problems: list[str]) -> Policy:
    annotations: dict[str, str] = {name: value or "" for name, value in body.get("annotations", {}).items()}
    place = f"{file}:{line}"
    problems.extend(f"{place}: @{name} is not known here" for name in sorted(annotations.keys() - _ANNOTATIONS))
    effect, ask = str(body["effect"]), annotations.get("ask", "")
    if "ask" in annotations and (effect != "permit" or not wire.is_name(ask)):
        problems.append(f'{place}: @ask("GROUP") names a group, on a permit')
    if "separate" in annotations and not ask:
        problems.append(f"{place}: @separate goes with @ask")
    limit = None
    if "limit" in annotations:
        found = _LIMIT.fullmatch(annotations["limit"])
        if not found or effect != "permit":
            problems.append(f'{place}: @limit("20/hour") is a number a minute, hour or day, on a permit')
        else:
            limit = Limit(int(found[1]), _SECONDS[found[2]])
    identifier = annotations.get("id", place)
    if "id" in annotations and not _ID.fullmatch(identifier):
        problems.append(f"{place}: an @id has up to 100 letters, digits and . _ - or space")
    return Policy(
        id=identifier,
        file=file,
        line=line,
        effect=effect,
        ask=ask,
        separate="separate" in annotations,
        limit=limit,
        reason=annotations.get("reason", ""),
        observed="observe" in annotations,
    )


def _unsound(policies: Mapping[str, Policy], bodies: Mapping[str, Any]) -> Iterator[str]:
    """What Cedar's strict validation finds: unknown attributes, types that do not fit, tags that may be missing."""
    for name, body in bodies.items():
        place = f"{policies[name].file}:{policies[name].line}"
        try:
            text = cedarpy.policies_from_json_str(json.dumps(_as_set({"policy": body})))
        except (ValueError, RecursionError):  # Cedar's own reading of what Cedar wrote, which ends at 128 levels
            yield f"{place}: {_TOO_DEEP}"
            continue
        told: dict[str, str] = {}  # Cedar tells a mistake once for each action that the policy may be about
        for said in sorted(str(error.error) for error in cedarpy.validate_policies(text, schema()).errors):
            told.setdefault(_ACTION.sub("", said), re.sub(r"^for policy `[^`]*`, ", "", said))
        for said in told.values():
            yield f"{place}: {said}"


def _as_set(bodies: Mapping[str, Any]) -> dict[str, Any]:
    return {"staticPolicies": dict(bodies), "templates": {}, "templateLinks": []}


def _policy_set(bodies: Mapping[str, Any]) -> cedarpy.PolicySet:
    return cedarpy.PolicySet.from_json_str(json.dumps(_as_set(bodies)))


def _reads(node: Any) -> Iterator[str]:
    """The members of the context that an expression reads; `*` where it uses the context in any other way."""
    if isinstance(node, list):
        for item in node:
            yield from _reads(item)
    elif isinstance(node, dict):
        access = node.get(".")
        if isinstance(access, dict) and access.get("left") == {"Var": "context"}:
            yield str(access.get("attr"))
        elif node == {"Var": "context"}:
            yield "*"
        else:
            for item in node.values():
                yield from _reads(item)
