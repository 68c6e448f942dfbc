"""Aurora's attempt-based rule: RUNNING has to be earned within a number of attempts.

Source: Aurora 0.17 and later (health checker of the executor). `forgiving` = initial interval / interval, rounded up;
`budget` = forgiving + max_consecutive_failures + min_consecutive_successes. Differences, all on purpose:

- Exactly `budget` attempts are made before the task is given up; the original made one more than it said.
- Only a task that has not passed is forgiven; the original forgave by the number of the attempt alone, so that the
  first failures of a task that was RUNNING already went unseen.
- A quotient that is whole but for the rounding of floating point is not rounded up.
- What could not be attempted (transient, snoozed) is no attempt; the original counted a snooze as a success.

An initial interval of 0 means that nothing is forgiven, as in the original.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.health.rules.aurora import Aurora, failing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.health.interpret import Reading
    from services.health.rules.base import Limits, Memory


class Stage(enum.Enum):
    """How far a task has come."""

    STARTING = "starting"
    """Has not passed."""
    RUNNING = "running"
    """Has passed: only rows of failures count."""
    DEAD = "dead"
    """Has to be ended. Final."""


class Event(enum.Enum):
    """What a result is, with the attempts made and the run of equal results that it ends."""

    SUCCESS = "success"
    ENOUGH = "enough successes"
    FORGIVEN = "failure of a forgiving attempt"
    HOPELESS = "failure after which the attempts that are left cannot be enough"
    FAILURE = "failure"
    TOO_MANY = "too many failures"
    SPENT = "no attempt is left"
    """The only one that is not a result: it comes before an attempt."""


_S, _R, _D = Stage.STARTING, Stage.RUNNING, Stage.DEAD

TRANSITIONS: Mapping[tuple[Stage, Event], Stage] = {
    (_S, Event.SUCCESS): _S,
    (_S, Event.ENOUGH): _R,
    (_S, Event.FORGIVEN): _S,
    (_S, Event.HOPELESS): _D,
    (_S, Event.FAILURE): _S,
    (_S, Event.TOO_MANY): _D,
    (_S, Event.SPENT): _D,
    # After a failure the row of successes starts anew: no news any more.
    (_R, Event.SUCCESS): _R,
    (_R, Event.ENOUGH): _R,
    (_R, Event.FAILURE): _R,
    (_R, Event.TOO_MANY): _D,
}


def forgiving(limits: Limits) -> int:
    """Attempts whose failure does not count."""
    # 2.1 / 0.7 is 3.0000000000000004.
    return math.ceil(round(limits.initial_interval / limits.interval, 9))


def budget(limits: Limits) -> int:
    """Attempts in which a task has to pass."""
    return forgiving(limits) + limits.max_failures + limits.min_successes


@dataclass(frozen=True, slots=True)
class State(Aurora):
    """See `RuleState`."""

    stage: Stage = Stage.STARTING
    passed: bool = False
    healthy: bool | None = None
    failures: int = 0
    successes: int = 0
    attempts: int = 0
    """Until it passed."""

    @property
    def dead(self) -> bool:
        """See `RuleState`."""
        return self.stage is Stage.DEAD

    def before(self, limits: Limits) -> State:
        """See `RuleState`."""
        if self.stage is not Stage.STARTING or self.attempts < budget(limits):
            return self
        return self._then(Event.SPENT, self.failures, self.successes, self.attempts)

    def count(self, limits: Limits, reading: Reading, elapsed: float) -> State:  # noqa: ARG002  # attempts, not time
        """See `RuleState`."""
        if self.dead:
            return self
        attempts = self.attempts + (self.stage is Stage.STARTING)
        successes = self.successes + 1 if reading.success else 0
        event = self._event(limits, attempts, successes)
        failures = 0 if reading.success else self.failures + (event is not Event.FORGIVEN)
        return self._then(event, failures, successes, attempts)

    def _event(self, limits: Limits, attempts: int, successes: int) -> Event:
        if successes:
            return Event.ENOUGH if successes >= limits.min_successes else Event.SUCCESS
        starting = self.stage is Stage.STARTING
        if starting and attempts <= forgiving(limits):
            return Event.FORGIVEN
        if self.failures + 1 > limits.max_failures:
            return Event.TOO_MANY
        left = budget(limits) - attempts
        # With one attempt left or none the original waits for it.
        return Event.HOPELESS if starting and limits.min_successes > left > 1 else Event.FAILURE

    def _then(self, event: Event, failures: int, successes: int, attempts: int) -> State:
        stage = TRANSITIONS[self.stage, event]
        # What has passed stays passed, even when it dies.
        passed = self.passed or stage is Stage.RUNNING
        return State(stage, passed, _healthy(stage, success=successes > 0), failures, successes, attempts)

    def explain(self, limits: Limits, before: State, detail: str) -> str:
        """See `RuleState`."""
        total = budget(limits)
        success = self.successes > 0
        needed = f"{limits.min_successes} in a row needed"
        match self.stage:
            case Stage.DEAD if before.stage is Stage.STARTING and self.attempts == before.attempts:
                return f"not enough successful health checks in time: attempt {self.attempts} of {total}, {needed}"
            case Stage.DEAD if before.stage is Stage.STARTING and self.failures <= limits.max_failures:
                return f"{detail} (too few attempts left: attempt {self.attempts} of {total}, {needed})"
            case Stage.STARTING if success:
                return f"{detail} ({self.successes} in a row, {limits.min_successes} needed)"
            case Stage.STARTING if self.failures == before.failures:
                return f"{detail} (forgiven, attempt {self.attempts} of {total})"
            case _ if not success:
                return failing(detail, self.failures, limits.max_failures)
        return detail

    def adopt(self, memory: Memory) -> State:
        """See `RuleState`. How many attempts were made is not remembered, so a task that has not passed starts anew."""
        passed = self.passed or memory.passed
        stage = Stage.DEAD if self.dead or memory.dead else Stage.RUNNING if passed else Stage.STARTING
        healthy = _healthy(stage, success=memory.healthy is not False)
        return State(stage, passed, healthy, memory.failures, memory.successes, self.attempts)

    def to_json(self) -> dict[str, object]:
        """See `RuleState`."""
        return {
            "stage": self.stage.value,
            "passed": self.passed,
            "healthy": self.healthy,
            "failures": self.failures,
            "successes": self.successes,
            "attempts": self.attempts,
        }


def _healthy(stage: Stage, *, success: bool) -> bool | None:
    match stage:
        case Stage.STARTING:
            return None
        case Stage.RUNNING:
            return success
        case Stage.DEAD:
            return False


class _AuroraAttempts:
    name = "aurora-attempts"

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
                "attempts": int(attempts),
            }:
                return State(Stage(stage), passed, healthy, failures, successes, attempts)
        raise ValueError("not a state of rule aurora-attempts")


RULE = _AuroraAttempts()
