"""One task in the books: its check, its journal, its driver's stream, its timer."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from services.health.interpret import Meaning, Reading
from services.health.model import Check, Phase, Plan
from trivet.health.v1 import health_pb2
from trivet.link.v1 import link_pb2

if TYPE_CHECKING:
    from services.common.attach import Session
    from services.common.keys import TaskKey
    from services.health.spec import Spec
    from services.health.store import CheckLog

# Results that `GetCheck` shows.
HISTORY = 50
_PHASES = {
    Phase.IDLE: health_pb2.CHECK_PHASE_IDLE,
    Phase.PROBING: health_pb2.CHECK_PHASE_PROBING,
    Phase.STOPPED: health_pb2.CHECK_PHASE_STOPPED,
}


class Timer(Protocol):
    """A call that is still to come."""

    def cancel(self) -> None:
        """It does not come."""


@dataclass(slots=True)
class Checked:
    """The part of an entry that only tasks with a health check have."""

    spec: Spec
    check: Check
    plan: Plan = field(init=False)
    timer: Timer | None = None
    history: deque[health_pb2.RecordedResult] = field(default_factory=lambda: deque(maxlen=HISTORY))

    def __post_init__(self) -> None:
        self.plan = Plan(self.spec.limits, self.spec.timeout)


@dataclass(slots=True)
class Entry:
    """One task. `alone_since`: CLOCK_BOOTTIME of the moment when its driver was lost."""

    key: TaskKey
    log: CheckLog
    checked: Checked | None
    alone_since: float
    session: Session[health_pb2.AttachResponse] | None = None

    def verdict(self) -> link_pb2.Verdict:
        """The whole verdict. Of a task without a health check it never changes: the gate is open."""
        if self.checked is None:
            return link_pb2.Verdict(key=self.key.to_pb(), version=1, passed=True)
        check = self.checked.check
        verdict = link_pb2.Verdict(
            key=self.key.to_pb(),
            version=check.version,
            passed=check.rule.passed,
            dead=check.rule.dead,
            message=check.message,
            consecutive_failures=check.rule.failures,
            consecutive_successes=check.rule.successes,
        )
        if check.rule.healthy is not None:
            verdict.healthy = check.rule.healthy
        return verdict

    def shown(self) -> health_pb2.Check | None:
        """For operators; None: the task has no health check."""
        if self.checked is None:
            return None
        check, spec = self.checked.check, self.checked.spec
        return health_pb2.Check(
            key=self.key.to_pb(),
            phase=_PHASES[check.phase],
            rule=spec.rule,
            description=spec.describe(),
            verdict=self.verdict(),
            probes=check.probes,
            failures=check.failures,
            transients=check.transients,
            attached=self.session is not None,
        )


def recorded(reading: Reading, latency: float) -> health_pb2.RecordedResult:
    """A result of now, for operators."""
    return health_pb2.RecordedResult(
        at=time.time(),
        success=reading.meaning is Meaning.SUCCESS,
        transient=reading.meaning is Meaning.TRANSIENT,
        detail=reading.detail,
        latency_secs=latency,
    )
