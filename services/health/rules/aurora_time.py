"""Aurora's time-based rule: RUNNING has to be earned within the initial interval.

Source: Aurora, health-gated RUNNING of 2016-09 (AURORA-1225), with `min_consecutive_successes` taken from the
configuration. One thing differs: with an initial interval of 0 the first check decides, where the original failed
practically every task.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.health.rules.aurora import Aurora, failing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.health.interpret import Reading
    from services.health.rules.base import Limits, Memory


class Stage(enum.Enum):
    """How far a task has come."""

    WARMING = "warming"
    """The initial interval runs; the task has not passed."""
    EARLY = "early"
    """Passed while the initial interval still runs: failures are counted and tolerated."""
    SETTLED = "settled"
    """Passed, and a check has completed after the initial interval: failures count."""
    DEAD = "dead"
    """Has to be ended. Final."""


class Timing(enum.Enum):
    """When a check was complete."""

    IN_TIME = "in time"
    LATE = "late"
    DECIDES = "decides"
    """There is no initial interval."""


class Count(enum.Enum):
    """What a result is, with the run of equal results that it ends."""

    SUCCESS = "success"
    ENOUGH = "enough successes"
    FAILURE = "failure"
    TOO_MANY = "too many failures"


_W, _E, _S, _D = Stage.WARMING, Stage.EARLY, Stage.SETTLED, Stage.DEAD

COUNTS = (Count.SUCCESS, Count.ENOUGH, Count.FAILURE, Count.TOO_MANY)
# stage, timing -> next stage for each of COUNTS.
_ROWS: Mapping[tuple[Stage, Timing], tuple[Stage, Stage, Stage, Stage]] = {
    (_W, Timing.IN_TIME): (_W, _E, _W, _W),
    # Even a success: it came too late.
    (_W, Timing.LATE): (_D, _D, _D, _D),
    (_W, Timing.DECIDES): (_S, _S, _D, _D),
    (_E, Timing.IN_TIME): (_E, _E, _E, _E),
    # Failures of the initial interval carry over.
    (_E, Timing.LATE): (_S, _S, _S, _D),
    # Reached only by adoption.
    (_E, Timing.DECIDES): (_S, _S, _S, _D),
    (_S, Timing.IN_TIME): (_S, _S, _S, _D),
    (_S, Timing.LATE): (_S, _S, _S, _D),
    (_S, Timing.DECIDES): (_S, _S, _S, _D),
    (_D, Timing.IN_TIME): (_D, _D, _D, _D),
    (_D, Timing.LATE): (_D, _D, _D, _D),
    (_D, Timing.DECIDES): (_D, _D, _D, _D),
}
TRANSITIONS: Mapping[tuple[Stage, Timing, Count], Stage] = {
    (stage, timing, count): then
    for (stage, timing), row in _ROWS.items()
    for count, then in zip(COUNTS, row, strict=True)
}


@dataclass(frozen=True, slots=True)
class State(Aurora):
    """See `RuleState`."""

    stage: Stage = Stage.WARMING
    passed: bool = False
    healthy: bool | None = None
    failures: int = 0
    successes: int = 0

    @property
    def dead(self) -> bool:
        """See `RuleState`."""
        return self.stage is Stage.DEAD

    def count(self, limits: Limits, reading: Reading, elapsed: float) -> State:
        """See `RuleState`."""
        if self.dead:
            return self
        success = reading.success
        failures = 0 if success else self.failures + 1
        successes = self.successes + 1 if success else 0
        stage = TRANSITIONS[self.stage, _timing(limits, elapsed), _count(limits, failures, successes)]
        # What has passed stays passed, even when it dies.
        passed = self.passed or stage in (Stage.EARLY, Stage.SETTLED)
        return State(stage, passed, _healthy(stage, success=success), failures, successes)

    def explain(self, limits: Limits, before: State, detail: str) -> str:
        """See `RuleState`."""
        initial = f"the initial interval of {limits.initial_interval:g} s"
        success = self.successes > 0
        match self.stage, before.stage:
            case Stage.DEAD, Stage.WARMING if success and limits.min_successes > 1:
                return f"{detail}, but not {limits.min_successes} times in a row within {initial}"
            case Stage.DEAD, Stage.WARMING if success:
                return f"{detail}, but only after {initial}"
            case Stage.DEAD, Stage.WARMING if limits.initial_interval <= 0:
                return f"{detail} (without an initial interval the first check decides)"
            case Stage.DEAD, Stage.WARMING:
                return f"{detail} (not healthy within {initial})"
            case ((Stage.WARMING | Stage.EARLY), _) if not success:
                return f"{detail} (tolerated within {initial})"
            case Stage.WARMING, _:
                return f"{detail} ({self.successes} in a row, {limits.min_successes} needed)"
            case _ if not success:
                return failing(detail, self.failures, limits.max_failures)
        return detail

    def adopt(self, memory: Memory) -> State:
        """See `RuleState`.

        How much of the initial interval was used up is not remembered, so a passed task gets a new one. Only `healthy`
        false proves that it was over.
        """
        passed = self.passed or memory.passed
        if self.dead or memory.dead:
            stage = Stage.DEAD
        elif not passed:
            stage = Stage.WARMING
        elif self.stage is Stage.SETTLED or memory.healthy is False:
            stage = Stage.SETTLED
        else:
            stage = Stage.EARLY
        healthy = memory.healthy is not False if stage is Stage.SETTLED else _healthy(stage, success=True)
        return State(stage, passed, healthy, memory.failures, memory.successes)

    def to_json(self) -> dict[str, object]:
        """See `RuleState`."""
        return {
            "stage": self.stage.value,
            "passed": self.passed,
            "healthy": self.healthy,
            "failures": self.failures,
            "successes": self.successes,
        }


def _timing(limits: Limits, elapsed: float) -> Timing:
    if limits.initial_interval <= 0:
        return Timing.DECIDES
    return Timing.IN_TIME if elapsed <= limits.initial_interval else Timing.LATE


def _count(limits: Limits, failures: int, successes: int) -> Count:
    if successes:
        return Count.ENOUGH if successes >= limits.min_successes else Count.SUCCESS
    return Count.TOO_MANY if failures > limits.max_failures else Count.FAILURE


def _healthy(stage: Stage, *, success: bool) -> bool | None:
    match stage:
        case Stage.WARMING:
            return None
        case Stage.EARLY:
            # A tolerated failure is no news.
            return True
        case Stage.SETTLED:
            return success
        case Stage.DEAD:
            return False


class _AuroraTime:
    name = "aurora-time"

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
            }:
                return State(Stage(stage), passed, healthy, failures, successes)
        raise ValueError("not a state of rule aurora-time")


RULE = _AuroraTime()
