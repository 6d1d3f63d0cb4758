"""Step 2 of a call: what a JSON-RPC frame asks for, read strictly, with the exact bytes of its arguments.

The frame is never changed. Whatever two readers could understand differently (members twice, members that differ
only in case, dot segments in a URI, a NUL in a name) is refused here, because the child's reader is not ours.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeGuard
from urllib.parse import unquote

import msgspec

from percall import wire
from percall.errors import WireError
from percall_broker.crypto.proofs import digest
from percall_broker.model.errors import InvalidInput

MAX_SUBJECT_CHARACTERS = 1024
_NAME = f"1 to {MAX_SUBJECT_CHARACTERS} characters without NUL"

_ENVELOPE = ("jsonrpc", "id", "method", "params")
_PARAMETERS = ("name", "uri", "ref", "arguments", "notifications", "task", "taskId")
_REFERENCE = ("type", "name", "uri")
_NOTIFICATIONS = ("resourceSubscriptions",)


class _Parameters(msgspec.Struct):
    arguments: msgspec.Raw = msgspec.Raw(b"")


class _ToolCall(msgspec.Struct):
    params: _Parameters


class _Envelope(msgspec.Struct):
    params: msgspec.Raw = msgspec.Raw(b"")


_decode_tool_call = msgspec.json.Decoder(_ToolCall).decode
_decode_envelope = msgspec.json.Decoder(_Envelope).decode


@dataclass(frozen=True, slots=True)
class Frame:
    """What a frame asks for. `kind` is tool, prompt, resource, task, or empty where we know no such method.

    `subjects` are what the grant must name: a tool, a prompt, or URIs; the id of a task. `arguments` are the exact
    bytes of a tool call's arguments, of any other request's parameters; `digest` is theirs.
    """

    method: str
    kind: str
    subjects: tuple[str, ...]
    digest: str
    arguments: bytes = field(repr=False)

    @property
    def label(self) -> str:
        """The tool's name; for other requests the method and what it is about."""
        if self.kind == "tool":
            return self.subjects[0]
        return " ".join((self.method, *self.subjects))[:MAX_SUBJECT_CHARACTERS]


def of_label(method: str, label: str) -> tuple[str, tuple[str, ...]]:
    """The kind and the subjects of a frame of which the record has kept the method and the label."""
    if method == "tools/call":
        return "tool", (label,)
    is_prompt = method == "prompts/get" or (method == "completion/complete" and "://" not in label)
    # Several resources may follow the method, and no URI has a space; a prompt's name may.
    subjects = tuple(label.split(" ", 1 if is_prompt else -1)[1:])
    if method.startswith("tasks/") or not subjects:
        return "task", subjects
    return "prompt" if is_prompt else "resource", subjects


def parse(frame: bytes) -> Frame:
    """The frame of some bytes. Raises InvalidInput (`frame.*`)."""
    if len(frame) > wire.MAX_FRAME_BYTES:
        raise InvalidInput("frame.long", f"The frame is longer than {wire.MAX_FRAME_BYTES} bytes.")
    try:
        value = wire.strict_json(frame)
    except WireError as error:
        raise InvalidInput(f"frame.{error.code.partition('.')[2]}", error.message) from None
    if not isinstance(value, dict):
        raise InvalidInput("frame.type", "The frame is not a JSON object.")
    return asked(value, frame)


def asked(value: dict[str, Any], frame: bytes) -> Frame:
    """The same for bytes that had their strict pass and were read as `value`. Raises InvalidInput."""
    _refuse_lookalikes(value, _ENVELOPE)
    method, params = value.get("method"), value.get("params", {})
    if not is_name(method):
        raise InvalidInput("frame.method", "The frame names no method.")
    if not isinstance(params, dict):
        raise InvalidInput("frame.params", "The frame's parameters are not a JSON object.")
    _refuse_lookalikes(params, _PARAMETERS)
    kind, subjects = _subjects(method, params)
    # The strict pass above has seen that these bytes have one meaning; here they are only cut out.
    if kind == "tool":
        if not isinstance(params.get("arguments"), dict | None):
            raise InvalidInput("frame.arguments", "The call's arguments are not a JSON object.")
        exact = bytes(_decode_tool_call(frame).params.arguments) if "arguments" in params else b""
    else:
        exact = bytes(_decode_envelope(frame).params) if "params" in value else b""
    return Frame(method, kind, subjects, digest(exact), exact)


def _refuse_lookalikes(members: dict[str, Any], known: tuple[str, ...]) -> None:
    """A reader that ignores case (Go's, for one) would take `Name` for `name`, and another tool than we decide on."""
    folded = _folded(known)
    for member in members:
        if folded.get(member.casefold(), member) != member:
            raise InvalidInput(
                "frame.case", f"The frame's member {member[:32]!r} differs from a known one by its case."
            )


@lru_cache
def _folded(known: tuple[str, ...]) -> dict[str, str]:
    return {name.casefold(): name for name in known}


def _subjects(  # noqa: PLR0911 - one line for each method
    method: str, params: dict[str, Any]
) -> tuple[str, tuple[str, ...]]:
    if method == "tools/call":
        return "tool", (_text(params, "name"),)
    if method == "prompts/get":
        return "prompt", (_text(params, "name"),)
    if method in {"resources/read", "resources/subscribe", "resources/unsubscribe"}:
        return "resource", (_uri(_text(params, "uri")),)
    if method == "completion/complete":
        return _completion(params)
    if method == "subscriptions/listen":
        return "resource", _listened(params)
    if method.startswith("tasks/"):
        return "task", () if method == "tasks/list" else (_text(params, "taskId"),)
    return "", ()


def _completion(params: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    ref = params.get("ref")
    if not isinstance(ref, dict):
        raise InvalidInput("frame.ref", "The completion names nothing to complete.")
    _refuse_lookalikes(ref, _REFERENCE)
    if ref.get("type") == "ref/prompt":
        return "prompt", (_text(ref, "name"),)
    if ref.get("type") == "ref/resource":
        return "resource", (_uri(_text(ref, "uri")),)
    raise InvalidInput("frame.ref", "The completion is for neither a prompt nor a resource.")


def _listened(params: dict[str, Any]) -> tuple[str, ...]:
    notifications = params.get("notifications", {})
    if not isinstance(notifications, dict):
        raise InvalidInput("frame.notifications", "The subscription does not say what to listen to.")
    _refuse_lookalikes(notifications, _NOTIFICATIONS)
    uris = notifications.get("resourceSubscriptions")
    if not isinstance(uris, list | None):
        raise InvalidInput("frame.notifications", "The subscription's resources are not a list.")
    return tuple(_uri(uri) for uri in uris or ())


def _text(members: dict[str, Any], name: str) -> str:
    value = members.get(name)
    if not is_name(value):
        raise InvalidInput(f"frame.{name}", f"The frame's {name!r} is not a string of {_NAME}.")
    return value


def is_name(value: Any) -> TypeGuard[str]:
    """Whether a value can be what a frame is about. NUL ends a string for some readers, and PostgreSQL keeps none."""
    return type(value) is str and 0 < len(value) <= MAX_SUBJECT_CHARACTERS and "\0" not in value


def _uri(value: Any) -> str:
    if not is_name(value):
        raise InvalidInput("frame.uri", f"A resource's URI is not a string of {_NAME}.")
    plain = unquote(unquote(value)).replace("\\", "/")
    if ".." in plain.split("/"):
        # `file:///work/../etc/passwd` matches `file:///work/*` and is not there.
        raise InvalidInput("frame.uri", "A resource's URI holds a dot segment.")
    return value
