"""Mesos' rule for health checks: failures in a row, after a grace period that the first success ends.

Source: Mesos: checks, health interpretation. `Limits.initial_interval` is the grace period, which includes the delay;
`Limits.max_failures` is one less than `consecutive_failures` (0 behaves as 1). `min_successes` is of no meaning.

The framework hears of every failure that counts, and of a success that is the first one or comes after such failures.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.health.interpret import numbered
from services.health.rules.base import Interpreted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.health.interpret import Reading
    from services.health.rules.base import Limits, Memory


class Stage(enum.Enum):
    """How far a task has come."""

    GRACE = "grace"
    """No result has counted yet."""
    COUNTING = "counting"
    """The grace period is over for good."""
    DEAD = "dead"
    """Has to be ended. Final."""


class Event(enum.Enum):
    """What a result is, with the time of its completion and the failures in a row before it."""

    SUCCESS = "success"
    RECOVERY = "success after failures that counted"
    EARLY = "failure within the grace period"
    FAILURE = "failure"
    TOO_MANY = "too many failures"


_G, _C, _D = Stage.GRACE, Stage.COUNTING, Stage.DEAD

# Next stage, and whether the framework hears of it.
TRANSITIONS: Mapping[tuple[Stage, Event], tuple[Stage, bool]] = {
    (_G, Event.SUCCESS): (_C, True),
    (_G, Event.EARLY): (_G, False),
    (_G, Event.FAILURE): (_C, True),
    (_G, Event.TOO_MANY): (_D, True),
    (_C, Event.SUCCESS): (_C, False),
    (_C, Event.RECOVERY): (_C, True),
    (_C, Event.FAILURE): (_C, True),
    (_C, Event.TOO_MANY): (_D, True),
}


@dataclass(frozen=True, slots=True)
class State(Interpreted):
    """See `RuleState`."""

    stage: Stage = Stage.GRACE
    passed: bool = False
    healthy: bool | None = None
    failures: int = 0
    """Those that count."""
    successes: int = 0
    reports: int = 0

    @property
    def dead(self) -> bool:
        """See `RuleState`."""
        return self.stage is Stage.DEAD

    @property
    def told(self) -> tuple[object, ...]:
        """See `RuleState`."""
        return self.passed, self.healthy, self.dead, self.reports

    def count(self, limits: Limits, reading: Reading, elapsed: float) -> State:
        """See `RuleState`."""
        if self.dead:
            return self
        event = self._event(limits, elapsed, success=reading.success)
        stage, reported = TRANSITIONS[self.stage, event]
        return State(
            stage,
            # What has passed stays passed, even when it dies.
            self.passed or reading.success,
            self.healthy if event is Event.EARLY else reading.success,
            0 if reading.success or event is Event.EARLY else self.failures + 1,
            self.successes + 1 if reading.success else 0,
            self.reports + reported,
        )

    def _event(self, limits: Limits, elapsed: float, *, success: bool) -> Event:
        if success:
            return Event.RECOVERY if self.failures else Event.SUCCESS
        if self.stage is Stage.GRACE and elapsed <= limits.initial_interval:
            return Event.EARLY
        return Event.TOO_MANY if self.failures + 1 > limits.max_failures else Event.FAILURE

    def explain(self, limits: Limits, before: State, detail: str) -> str:
        """See `RuleState`."""
        if self.successes:
            return detail
        if self.failures == before.failures:
            return f"{detail} (ignored within the grace period of {limits.initial_interval:g} s)"
        return numbered(detail, self.failures, max(limits.max_failures, 0) + 1)

    def adopt(self, memory: Memory) -> State:
        """See `RuleState`.

        That a task was called RUNNING proves nothing about a check that does not gate, so it ends no grace period and
        resets no row; a verdict does.
        """
        passed = self.passed or memory.passed
        reports = max(self.reports, memory.reports)
        if self.dead or memory.dead:
            return State(Stage.DEAD, passed, False, max(self.failures, memory.failures), 0, reports)
        if memory.healthy is None:
            return State(self.stage, passed, self.healthy, self.failures, self.successes, reports)
        return State(Stage.COUNTING, passed, memory.healthy, memory.failures, memory.successes, reports)

    def to_json(self) -> dict[str, object]:
        """See `RuleState`."""
        return {
            "stage": self.stage.value,
            "passed": self.passed,
            "healthy": self.healthy,
            "failures": self.failures,
            "successes": self.successes,
            "reports": self.reports,
        }


class _Mesos:
    name = "mesos"

    def start(self) -> State:
        return State()

    def restore(self, record: Mapping[str, object]) -> State:
        match record:
            case {
                "stage": str(stage),
                "passed": bool(passed),
                "healthy": (None | True | False) as healthy,
                "failures": int(failures),
                "successes": int(successes),
                "reports": int(reports),
            }:
                return State(Stage(stage), passed, healthy, failures, successes, reports)
        raise ValueError("not a state of rule mesos")


RULE = _Mesos()
