"""The loopback listener: takes the child's API requests on threads of its own. (Being built; the API stands.)"""

from __future__ import annotations

from percall.egress.sending import BrokerAnswer, BrokerSender, Message

__all__ = ["BrokerAnswer", "BrokerSender", "Message"]
