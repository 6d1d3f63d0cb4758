"""What makes two calls the same call, or calls of one shape: for approvals that a retry attaches to, or that last.

The same call: one method and tool of one server with the same arguments, under the same rule. One shape: the arguments
have the same names, and the same values but for those that the approver has named as varying. Values are compared as
they were written, byte for byte; a client that writes them otherwise is asked about again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from percall_broker.crypto import base64url, sodium
from percall_broker.crypto.proofs import digest
from percall_broker.log.canonical import canonical

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from percall_broker.model.records import Decision
    from percall_broker.stages.frame import Frame

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_TOOL = "tools/call"
_META = "_meta"
_WHOLE = ""
"""The one name of arguments that are no object."""


def members(method: str, arguments: bytes) -> dict[str, str]:
    """The arguments' members as they were written, by name. What a client adds anew to each request is left out."""
    if not arguments:
        return {}
    try:
        found = {name: bytes(raw).decode() for name, raw in _decode(arguments).items()}
    except msgspec.ValidationError:
        return {_WHOLE: arguments.decode()}
    if method != _TOOL:
        found.pop(_META, None)  # a token for progress, a trace: another one each time
    return found


def rule(policy_version: int, groups: Iterable[str], *, separate: bool) -> str:
    """What the policies asked for: another version, or other groups, and an answer to it holds no longer."""
    asked = {"version": policy_version, "groups": sorted(groups), "separate": separate}
    return digest(canonical(asked).encode())


def rule_of(decision: Decision) -> str:
    """The same of a decision."""
    return rule(decision.policy_version, decision.ask, separate=decision.separate)


def subject(server: str, frame: Frame, decision: Decision) -> str:
    """What a further attempt of the same call has in common with the first, beside its grant."""
    arguments = frame.digest
    if frame.method != _TOOL:
        arguments = digest(canonical(members(frame.method, frame.arguments)).encode())
    told = {"server": server, "method": frame.method, "tool": frame.label, "arguments": arguments}
    return digest(canonical({**told, "rule": rule_of(decision)}).encode())


class Shapes:
    """Digests of shapes, under a key of the broker's: a short argument is not guessed from one."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __call__(
        self, grant: str, server: str, method: str, tool: str, arguments: bytes, varying: Sequence[str]
    ) -> str:
        """The shape of a call, where the members named in `varying` may have any value. `tool` is the frame's label."""
        found = members(method, arguments)
        told = {
            "grant": grant,
            "server": server,
            "method": method,
            "tool": tool,
            "names": sorted(found),
            "varying": sorted(varying),
            "values": {name: value for name, value in found.items() if name not in varying},
        }
        return base64url.encode(sodium.mac(self._key, canonical(told).encode()))
