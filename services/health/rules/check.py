"""Mesos' rule for checks: nothing is interpreted, what was found is told when it changes.

Source: Mesos: checks, non-interpreting. A change is one of value or of presence; before the first result there is no
value, so that attempts that find nothing are no news until one has found something. A task is never ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.health.interpret import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.health.interpret import Reading
    from services.health.rules.base import Limits, Memory


@dataclass(frozen=True, slots=True)
class State:
    """See `RuleState`."""

    value: Value | None = None
    changes: int = 0

    @property
    def passed(self) -> bool:
        """Always: nothing waits for it."""
        return True

    @property
    def healthy(self) -> bool | None:
        """Never an opinion."""
        return None

    @property
    def dead(self) -> bool:
        """Never."""
        return False

    @property
    def failures(self) -> int:
        """Always 0: no result is a failure."""
        return 0

    @property
    def successes(self) -> int:
        """Always 0: no result is a success."""
        return 0

    @property
    def reports(self) -> int:
        """Always 0: `changes` says when to tell."""
        return 0

    @property
    def told(self) -> tuple[object, ...]:
        """See `RuleState`."""
        return (self.changes,)

    def before(self, limits: Limits) -> State:  # noqa: ARG002  # the interface is that of all rules
        """See `RuleState`."""
        return self

    def count(self, limits: Limits, reading: Reading, elapsed: float) -> State:  # noqa: ARG002
        """See `RuleState`."""
        return self if reading.value == self.value else State(reading.value, self.changes + 1)

    def explain(self, limits: Limits, before: State, detail: str) -> str:  # noqa: ARG002
        """See `RuleState`. From what to what, if it is a change."""
        if before.value is None or self.value == before.value:
            return detail
        if self.value is None:
            return f"{detail} (was {before.value})"
        return detail.replace(str(self.value), self.value.after(before.value), 1)

    def adopt(self, memory: Memory) -> State:
        """See `RuleState`. Who has seen more changes has seen the last one."""
        return State(memory.value, memory.changes) if memory.changes > self.changes else self

    def to_json(self) -> dict[str, object]:
        """See `RuleState`."""
        return {"value": self.value and self.value.to_json(), "changes": self.changes}


class _Check:
    name = "check"

    def start(self) -> State:
        return State()

    def restore(self, record: Mapping[str, object]) -> State:
        match record:
            case {"value": value, "changes": int(changes)}:
                return State(None if value is None else Value.of_json(value), changes)
        raise ValueError("not a state of rule check")


RULE = _Check()
