"""Step 3 of a call: does the grant name what the frame asks for? Pure; the default is no.

In patterns `*` stands for any characters and everything else for itself.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from percall_broker.model.records import Decision
from percall_broker.model.rules import name_matches
from percall_broker.model.standing import barred, closed

if TYPE_CHECKING:
    from percall_broker.model.records import Grant, Scope, Server
    from percall_broker.stages.frame import Frame

_UNNAMED_AGENT = "default"
"""What the laptop's commands take where none is named."""
_ASK = "Ask your administrator, who can create a grant that names it."


def decide(  # noqa: PLR0911 - one answer for each rule
    grant: Grant, server_name: str, server: Server | None, frame: Frame, now: float
) -> Decision:
    """The decision on one call. `server` is None where the catalogue has none of this name."""
    refusal = barred(grant, now)
    if refusal is not None:
        return refusal
    scope = grant.servers.get(server_name)
    # A server that exists and one that does not look alike to a grant that names neither.
    if scope is None:
        return _forbid(
            "grant.server", f"The grant does not name the server {server_name!r}.", grant, server_name, frame
        )
    shut = closed(server_name, server)
    if shut is not None:
        return shut
    if frame.kind == "task":
        return _permit("grant.server", "The grant names the server.")
    if not frame.kind:
        return _forbid("grant.method", f"No grant covers the method {frame.method!r}.", grant, server_name, frame)
    for subject in frame.subjects:
        if not name_matches(_patterns(scope, frame.kind), subject):
            message = f"The grant does not name the {frame.kind} {subject!r}."
            return _forbid(f"grant.{frame.kind}", message, grant, server_name, frame)
    return _permit(f"grant.{frame.kind}", f"The grant names the {frame.kind}.")


def _patterns(scope: Scope, kind: str) -> tuple[str, ...]:
    return {"tool": scope.tools, "prompt": scope.prompts, "resource": scope.resources}[kind]


def _permit(code: str, message: str) -> Decision:
    return Decision(permitted=True, code=code, message=message)


def _forbid(code: str, message: str, grant: Grant, server: str, frame: Frame) -> Decision:
    """With how to ask for it: tools by a request, what else there is at the administrator's."""
    asking = _ASK
    if frame.kind == "tool":
        agent = [] if grant.agent == _UNNAMED_AGENT else ["--agent", grant.agent]
        words = shlex.join(["percall", "request", *agent, server, "--tool", frame.subjects[0], "--for", "2h"])
        asking = f"To ask for it: {words} --reason WHY"
    return Decision(permitted=False, code=code, message=message, next_step=asking)
