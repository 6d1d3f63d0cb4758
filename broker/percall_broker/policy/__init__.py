"""The organisation's rules, in Cedar: read, checked against a published schema, and evaluated for one call."""

from __future__ import annotations

from percall_broker.policy.evaluation import Asked, Evaluator, Verdict
from percall_broker.policy.language import BUILT_IN, Policies, Policy, read

__all__ = ["BUILT_IN", "Asked", "Evaluator", "Policies", "Policy", "Verdict", "read"]
