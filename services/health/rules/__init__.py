"""Verdict rules, one module each, by the name that the API shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.health.rules import aurora_attempts, aurora_time, check, mesos
from services.health.rules.base import Limits, Memory, Rule, RuleState

if TYPE_CHECKING:
    from collections.abc import Mapping

RULES: Mapping[str, Rule] = {
    rule.name: rule for rule in (aurora_time.RULE, aurora_attempts.RULE, mesos.RULE, check.RULE)
}

__all__ = ["RULES", "Limits", "Memory", "Rule", "RuleState"]
