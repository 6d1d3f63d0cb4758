"""Whose the tasks of remote servers are: all grants share the server's key, so to the server they are one client.

A task belongs to the grant whose call made it. Another grant neither reads nor cancels it, nor sees it in a list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from percall_broker.model.records import Decision
from percall_broker.store.protocol import Statement

if TYPE_CHECKING:
    from percall_broker.stages.frame import Frame
    from percall_broker.store.protocol import Store

KEPT_SECONDS = 30 * 24 * 3600
_MOST_LISTED = 10_000


class Tasks:
    """Tasks by server and grant. Every method raises Unavailable when the store cannot."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def made(self, server: str, task: str, grant: str, now: float) -> None:
        """A call of a grant has become a task; durable when this returns."""
        made = {"server": server, "task": task, "grant_id": grant, "created_at": int(now)}
        await self._store.append(Statement("remember_task", made))

    async def refusal(self, server: str, grant: str, frame: Frame) -> Decision | None:
        """The refusal of a request about a task that is not this grant's; None where there is nothing to refuse."""
        if frame.kind != "task" or not frame.subjects:
            return None
        (task,) = frame.subjects
        if await self._store.fetch("is_task_of", server=server, task=task, grant_id=grant):
            return None
        return Decision(permitted=False, code="task.unknown", message="This grant has no such task at this server.")

    async def of(self, server: str, grant: str) -> frozenset[str]:
        """A grant's tasks at a server."""
        rows = await self._store.fetch("tasks_of", server=server, grant_id=grant, limit=_MOST_LISTED)
        return frozenset(row["task"] for row in rows)

    async def forget(self, now: float) -> None:
        """Those of long ago."""
        await self._store.append(Statement("forget_tasks", {"before": int(now) - KEPT_SECONDS}))
