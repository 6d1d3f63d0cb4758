"""Writes docs/reference/errors.md from the sources, where a code stands before its sentence: `make docs`."""
# ruff: noqa: E501 - a row of a page is one line

from __future__ import annotations

import ast
import functools
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from percall import wire

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).parents[2]
_PACKAGES = (_ROOT / "shim" / "percall", _ROOT / "broker" / "percall_broker")
FILE = _ROOT / "docs" / "reference" / "errors.md"
_CODE = re.compile(r"(…|[a-z_]+)\.(…|[a-z_][a-z0-9_]*)")
_HEAD = """# Error codes

Every error has a stable code, a sentence, and what to do next where something can be done. The code stands in brackets on standard error, as `code` in what `--json` prints, in a refused call's result and in the broker's answers, and as `reason` in the log, in figures and in events. A code keeps its meaning from version to version; its sentence may change. `…` stands for what differs: a name, a file, a number. This page is made from the sources, by `make docs`.
"""


class _Told(NamedTuple):
    sentence: str
    next_step: str = ""


_LOG_IN = "Run `percall login URL --invite CODE`, or name another agent with --agent."
_COMPOSED = {
    "recipe.loader": _Told("A variable makes the server run other code than its command says.", "Is that meant?"),
    "recipe.draft": _Told("It is a draft still.", "Review each line, then take its first lines away, which say so."),
    "upstream.status": _Told("The server answered with an HTTP status that is no answer to the message."),
    "egress.unknown": _Told(
        "An API request went out and no answer came: whether the upstream got it is unknown.",
        "Look at the upstream before trying again.",
    ),
    "clock.apart": _Told(
        "This machine's clock and the broker's are too far apart.",
        "Set the one that is wrong right; they may differ by a minute.",
    ),
    "approval.answered": _Told("The question is not open any more, or is not this person's to answer."),
    "approval.not_yours": _Told("The question is not this person's to answer, with the reason."),
    "broker.frozen": _Told("An administrator has frozen every call at this broker.", "An administrator may lift it."),
    "broker.gateway": _Told("The broker is away: a proxy in front of it answers.", "Try again soon."),
    "broker.sealed": _Told("The broker is sealed: the source of its keys does not answer.", "Try again later."),
    "broker.strange": _Told("What answers is not a Percall broker.", "Check its URL, and any proxy between."),
    "call.overdue": _Told("Nobody settled the call before its deadline had passed; its outcome is unknown."),
    "call.settled": _Told("The shim told the call's outcome."),
    "call.unknown": _Told(
        "A call went out and no answer came: whether it was done is unknown.", "Look before it is tried again."
    ),
    "device.frozen": _Told("An administrator has frozen all that this device may do.", "An administrator may lift it."),
    "metrics.token": _Told("The figures want the bearer token of `metrics_token_file`."),
    "person.frozen": _Told("An administrator has frozen all that this person may do.", "An administrator may lift it."),
    "policy.ask": _Told("A policy wants the call approved, with the reason that it gives."),
    "policy.forbid": _Told("A policy forbids the call, with the reason that it gives."),
    "request.header_mismatch": _Told("A header says another thing than the message that it repeats."),
    "server.frozen": _Told("An administrator has frozen this server.", "An administrator may lift it."),
    "grant.suspended": _Told("An administrator has suspended this grant.", "Ask your administrator to resume it."),
    "server.suspended": _Told("An administrator has suspended this server.", "An administrator may resume it."),
    "store.slow": _Told("The store did not answer in time."),
    "system.refused": _Told(
        "A file or a disk cannot be used, as the operating system says.",
        "Check the path, whose it is, and the disk's space.",
    ),
    **{
        f"{command}.no_login": _Told("There is no login, or none of this agent.", _LOG_IN)
        for command in ("adopt", "key", "log", "passphrase", "status")
    },
}
"""What the sources put together in a way that cannot be read off them."""
_ERROR = re.compile(r"(Error|Failed|Refusal|Refused|Unreachable|Unauthenticated|Forbidden|NotFound|Conflict|Input)$")
_NO_CODES = {"_wrong", "change", "reading", "observation"}
"""What is called with the place of a setting, or the name of a change."""


def markdown() -> str:
    """The whole page."""
    lines, area = [_HEAD.rstrip()], ""
    for code, said in sorted(_told()):
        if area != (area := code.split(".")[0]):
            lines += ["", f"## {area}", "", "| code | says | what to do |", "|---|---|---|"]
        lines.append(f"| `{code}` | {_cell(said.sentence)} | {_cell(said.next_step)} |")
    return "\n".join(lines) + "\n"


def left_out() -> set[str]:
    """The codes that the sources make an error of, and that the page does not have; and what it has beyond the sources."""
    made: set[str] = set()
    for node in (node for tree in _trees() for node in ast.walk(tree)):
        match node:
            case ast.Call(func=ast.Name(id=name), args=[(ast.Constant() | ast.Attribute()) as code, *_]):
                if _ERROR.search(name):
                    made.update(text for text in _codes(code) if _CODE.fullmatch(text))
    unknown = {code for code in _COMPOSED if not any(f'"{code}"' in text for text in _sources())}
    return (made - {code for code, _ in _told()}) | unknown


@functools.cache
def _told() -> set[tuple[str, _Told]]:
    found = set(_COMPOSED.items())
    for tree in _trees():
        prefixes = dict(_prefixes(tree))
        for node in ast.walk(tree):
            for codes, sentence, next_step in _neighbours(node, prefixes):
                said = _Told(_text(sentence), _text(next_step))
                if " " in said.sentence and re.search(r"[a-z]{2}", said.sentence):
                    found |= {(code, said) for code in codes if _CODE.fullmatch(code)}
    return found


@functools.cache
def _trees() -> list[ast.Module]:
    return [ast.parse(text) for text in _sources()]


@functools.cache
def _sources() -> list[str]:
    return [file.read_text(encoding="utf-8") for package in _PACKAGES for file in sorted(package.rglob("*.py"))]


def _prefixes(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """The functions whose first argument is the rest of a code, with its beginning."""
    for function in tree.body:
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                match node:
                    case ast.JoinedStr(
                        values=[ast.Constant(value=str(prefix)), ast.FormattedValue(value=ast.Name(id=name))]
                    ):
                        if prefix.endswith(".") and name == function.args.args[0].arg:
                            yield function.name, prefix


def _neighbours(node: ast.AST, prefixes: dict[str, str]) -> Iterator[tuple[list[str], ast.expr, ast.expr | None]]:
    """Each code in this node with its sentence and next step: side by side, or by name."""
    if not isinstance(node, ast.Call) or (called := ast.unparse(node.func).split(".")[-1]) in _NO_CODES:
        return
    named = {keyword.arg: keyword.value for keyword in node.keywords}
    if "code" in named:  # a decision; or a finding of `doctor`, whose first two words say what was looked at
        message, *following = [named["message"]] if "message" in named else node.args[2:] or [named["code"]]
        yield _codes(named["code"]), message, named.get("next_step", following[0] if following else None)
    for code, sentence, next_step in zip(node.args, node.args[1:], [*node.args[2:], None], strict=False):
        yield [prefixes.get(called, "") + text for text in _codes(code)], sentence, next_step


def _codes(code: ast.expr) -> list[str]:
    match code:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.Attribute(value=ast.Name(id="wire"), attr=name) if name.startswith("CODE_"):
            return [getattr(wire, name)]
        case ast.IfExp(body=body, orelse=orelse):
            return _codes(body) + _codes(orelse)
        case ast.JoinedStr():
            return [_text(code)]
    return []


def _text(said: ast.expr | None) -> str:
    match said:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return re.sub("…+", "…", "".join(_text(part) for part in parts))
        case ast.BinOp(left=left, right=right):
            return _text(left) + _text(right)
        case ast.IfExp(body=body, orelse=orelse):
            return " Or: ".join(text for text in (_text(body), _text(orelse)) if text.strip("…"))
        case None:
            return ""
    return "…"


def _cell(text: str) -> str:
    """Text in a table's cell, where a star is a star; none where all of it differs."""
    if not re.search(r"[a-z]", text):
        return ""
    parts = " ".join(text.split()).replace("|", r"\|").split("`")
    return "`".join(re.sub(r"[*<_]", r"\\\g<0>", part) if index % 2 == 0 else part for index, part in enumerate(parts))


if __name__ == "__main__":
    FILE.write_text(markdown(), encoding="utf-8")
    sys.stderr.write(f"{FILE}\n")
