"""What an administrator changes and reads, a module for each subject, over one ledger of changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from percall_broker.pipeline.administration.devices import Devices
from percall_broker.pipeline.administration.freezes import Freezes
from percall_broker.pipeline.administration.grants import Grants
from percall_broker.pipeline.administration.groups import Groups
from percall_broker.pipeline.administration.keys import Keys
from percall_broker.pipeline.administration.people import People
from percall_broker.pipeline.administration.pins import ToolPins
from percall_broker.pipeline.administration.policies import PolicyBook
from percall_broker.pipeline.administration.record import Record
from percall_broker.pipeline.administration.review import Review
from percall_broker.pipeline.administration.servers import Servers
from percall_broker.pipeline.administration.webhooks import WebhookEndpoints

if TYPE_CHECKING:
    from percall_broker.log.arguments import SealedArguments
    from percall_broker.pipeline.administration.ledger import Ledger
    from percall_broker.stages.lookup import Lookup
    from percall_broker.vault import Vault


@dataclass(frozen=True, slots=True)
class Administration:
    """The subjects."""

    people: People
    devices: Devices
    groups: Groups
    freezes: Freezes
    grants: Grants
    servers: Servers
    keys: Keys
    pins: ToolPins
    record: Record
    webhooks: WebhookEndpoints
    review: Review
    policies: PolicyBook

    @classmethod
    def over(cls, ledger: Ledger, vault: Vault, lookup: Lookup, arguments: SealedArguments) -> Self:
        """All of them over one ledger."""
        policies = PolicyBook(ledger, lookup, arguments)
        grants = Grants(ledger, policies)
        return cls(
            people=People(ledger, grants),
            devices=Devices(ledger),
            groups=Groups(ledger, policies),
            freezes=Freezes(ledger),
            grants=grants,
            servers=Servers(ledger, vault),
            keys=Keys(ledger),
            pins=ToolPins(ledger),
            record=Record(ledger, arguments),
            webhooks=WebhookEndpoints(ledger, vault),
            review=Review(ledger, grants),
            policies=policies,
        )
