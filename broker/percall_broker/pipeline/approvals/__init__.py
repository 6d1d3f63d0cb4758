"""Approvals, as people see and answer them: an inbox, its answers, and what an agent asks for itself.

What a call does with an answer is `stages.approval`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from percall_broker.pipeline.approvals.answers import Answers
from percall_broker.pipeline.approvals.inbox import Inbox
from percall_broker.pipeline.approvals.requests import Requests
from percall_broker.store.protocol import Statement

if TYPE_CHECKING:
    from percall_broker.log.arguments import SealedArguments
    from percall_broker.pipeline.administration.ledger import Ledger
    from percall_broker.stages.shape import Shapes


KEPT_SECONDS = 90 * 24 * 3600
"""How long one that is over is listed; the record stands."""


@dataclass(frozen=True, slots=True)
class Approvals:
    """The subjects."""

    ledger: Ledger
    inbox: Inbox
    answers: Answers
    requests: Requests

    @classmethod
    def over(cls, ledger: Ledger, arguments: SealedArguments, shapes: Shapes, public_url: str) -> Self:
        """All of them over one ledger."""
        inbox = Inbox(ledger, arguments, public_url)
        return cls(ledger, inbox, Answers(ledger, inbox, shapes), Requests(ledger, public_url))

    async def forget(self, now: float) -> None:
        """Those that are long over. Raises Unavailable."""
        before = {"before_ms": int((now - KEPT_SECONDS) * 1000), "now": int(now)}
        await self.ledger.append(
            Statement("end_past_allowances", {"now": int(now)}),
            Statement("forget_approvals", before),
            Statement("forget_approval_groups"),
        )
