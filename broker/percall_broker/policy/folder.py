"""A folder of policies, and the tests that lie beside them: `*.cedar`, and `*.test.toml` with one table for each case.

[[test]]
name = "developers need a lead to merge"
person = "alice"
groups = ["developers"]
server = "github"
tool = "merge_pull_request"
arguments = { repo = "acme/site" }
expect = "ask"
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from percall_broker.crypto.proofs import digest
from percall_broker.model.errors import InvalidInput
from percall_broker.policy.evaluation import Asked, Evaluator

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from percall_broker.policy.language import Policies

_SUFFIX = ".test.toml"
_MOST_CHARACTERS = 4 * 1024 * 1024


class Case(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One test of policies. `policy` names one that must be among those that decided; `at` is a time, else now;
    of UTC where it names no zone, as all times of policies are.
    """

    name: str
    expect: str
    person: str
    server: str
    agent: str = "default"
    device: str = ""
    groups: tuple[str, ...] = ()
    tool: str = ""
    prompt: str = ""
    resource: str = ""
    delivery: str = "egress"
    client: str = ""
    arguments: dict[str, Any] = {}
    annotations: dict[str, bool] = {}
    policy: str = ""
    at: datetime | None = None


class _Cases(msgspec.Struct, forbid_unknown_fields=True):
    test: Annotated[list[Case], msgspec.Meta(min_length=1)]


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a case. `wrong` says what was not as expected, empty where all was."""

    file: str
    case: Case
    wrong: str


def read_files(folder: Path) -> dict[str, str]:
    """The policies' texts of a folder, at any depth, by their path in it. Raises InvalidInput."""
    return _texts(folder, ".cedar")


def read_cases(folder: Path) -> dict[str, list[Case]]:
    """The tests of a folder, by file. Raises InvalidInput."""
    cases = {}
    for file, text in _texts(folder, _SUFFIX).items():
        try:
            cases[file] = msgspec.convert(tomllib.loads(text), _Cases).test
        except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
            raise InvalidInput("policy.test", f"{file} cannot be read as tests: {error}.") from None
    return cases


def run(policies: Policies, cases: Mapping[str, list[Case]]) -> list[Result]:
    """Puts each case to the policies."""
    evaluator = Evaluator()
    return [_run(policies, evaluator, file, case) for file, found in cases.items() for case in found]


def _run(policies: Policies, evaluator: Evaluator, file: str, case: Case) -> Result:
    at = case.at or datetime.now(UTC)
    moment = at if at.tzinfo else at.replace(tzinfo=UTC)
    verdict = evaluator(policies, _asked(case), moment.timestamp())
    wrong = ""
    if verdict.effect != case.expect:
        wrong = f"expected {case.expect}, got {verdict.effect} ({verdict.message})"
    elif case.policy and case.policy not in verdict.policies:
        wrong = f"expected the policy {case.policy!r} to decide, not {', '.join(verdict.policies) or 'none'}"
    return Result(file, case, wrong)


def _asked(case: Case) -> Asked:
    arguments = msgspec.json.encode(case.arguments)
    kinds = {"tools/call": ("tool", case.tool), "prompts/get": ("prompt", case.prompt)}
    kinds["resources/read"] = ("resource", case.resource)
    method = next((method for method, (_, subject) in kinds.items() if subject), "tasks/get")
    kind, subject = kinds.get(method, ("task", ""))
    return Asked(
        person=case.person,
        agent=case.agent,
        device=case.device,
        groups=case.groups,
        server=case.server,
        delivery=case.delivery,
        method=method,
        kind=kind,
        subjects=(subject,) if subject else (),
        client=case.client,
        digest=digest(arguments),
        arguments=arguments,
        annotations=tuple(case.annotations.items()),
    )


def _texts(folder: Path, suffix: str) -> dict[str, str]:
    if not folder.is_dir():
        raise InvalidInput("policy.folder", f"{folder} is no folder.", "Name the folder of the .cedar files.")
    texts = {}
    for path in sorted(folder.rglob(f"*{suffix}")):
        name = path.relative_to(folder).as_posix()
        try:
            if not path.is_file():  # a pipe would be waited for, a device has no end
                raise InvalidInput("policy.folder", f"{name} is no file.", "Take it out of the folder.")
            with path.open(encoding="utf-8") as file:
                texts[name] = file.read(_MOST_CHARACTERS + 1)
            if len(texts[name]) > _MOST_CHARACTERS:
                raise InvalidInput("policy.size", f"{name} is too large.")
        except OSError as error:
            raise InvalidInput(
                "policy.folder", f"{name} cannot be read: {error.strerror}.", "See its permissions."
            ) from None
        except UnicodeDecodeError:
            raise InvalidInput("policy.folder", f"{name} is no text in UTF-8.", "Save it as UTF-8.") from None
    return texts
