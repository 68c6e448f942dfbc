"""One task in the books: its checks, its journal, its driver's stream, its timers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from services.health.history import History
from services.health.model import Kind, Plan
from services.health.verdict import passed
from trivet.link.v1 import link_pb2

if TYPE_CHECKING:
    from services.common.attach import Session
    from services.common.keys import Executor, TaskKey
    from services.health.model import Check, Noted
    from services.health.spec import Spec
    from services.health.store import CheckLog
    from services.health.verdict import Checks
    from trivet.health.v1 import health_pb2

_TYPES = {
    "http": link_pb2.CHECK_TYPE_HTTP,
    "https": link_pb2.CHECK_TYPE_HTTP,
    "tcp": link_pb2.CHECK_TYPE_TCP,
    "command": link_pb2.CHECK_TYPE_COMMAND,
}


class Timer(Protocol):
    """A call that is still to come."""

    def cancel(self) -> None:
        """It does not come."""


class Observer(Protocol):
    """Counts attempts."""

    def probed(self, spec: Spec, /) -> None:
        """An attempt of a check is begun."""

    def noted(self, spec: Spec, noted: Noted, /) -> None:
        """One is over."""


@dataclass(slots=True)
class Checked:
    """What belongs to one check of a task besides its state."""

    spec: Spec
    history: History = field(default_factory=History)
    plan: Plan = field(init=False)
    timer: Timer | None = None
    wake: float | None = None
    """When the timer fires, CLOCK_BOOTTIME."""

    def __post_init__(self) -> None:
        self.plan = Plan(self.spec.limits, self.spec.timeout, self.spec.gates)

    def unschedule(self) -> None:
        """The timer does not fire."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = self.wake = None


@dataclass(slots=True)
class Entry:
    """One task. `alone_since`: CLOCK_BOOTTIME of the moment when its driver was lost."""

    key: TaskKey
    log: CheckLog
    task: Checks | None
    """None: it has no check."""
    checked: dict[Kind, Checked]
    alone_since: float
    session: Session[health_pb2.AttachResponse] | None = None
    logged: tuple[bool, bool | None, bool] | None = None
    """`passed`, `healthy` and `dead` of the verdict that was logged last."""
    plans: dict[Kind, Plan] = field(init=False)
    histories: dict[Kind, History] = field(init=False)

    def __post_init__(self) -> None:
        self.plans = {kind: checked.plan for kind, checked in self.checked.items()}
        self.histories = {kind: checked.history for kind, checked in self.checked.items()}

    def superseded_by(self, executor: Executor) -> bool:
        """A Hello of `executor` that does not name the task means that it is over."""
        if self.key.executor == executor:
            return True
        # Another incarnation. The ids of an executor are no secret: nobody ends the checks of one that is attached now.
        return self.session is None and self.key.executor[:2] == executor[:2]

    def check(self, kind: Kind) -> Check:
        """The state of a check.

        Raises:
            KeyError: The task has none of that kind.
        """
        if self.task is None:
            raise KeyError(kind)
        return self.task.of[kind]

    def verdict(self) -> link_pb2.Verdict:
        """The whole verdict. Of a task without a check it never changes: the gate is open."""
        task = self.task
        if task is None:
            return link_pb2.Verdict(key=self.key.to_pb(), version=1, passed=True)
        verdict = link_pb2.Verdict(key=self.key.to_pb(), version=task.version, passed=passed(task, self.plans))
        health = task.of.get(Kind.HEALTH)
        if health is not None:
            rule = health.rule
            verdict.dead = rule.dead
            verdict.message = health.message
            verdict.consecutive_failures = rule.failures
            verdict.consecutive_successes = rule.successes
            verdict.health_reports = rule.reports
            if rule.healthy is not None:
                verdict.healthy = rule.healthy
        told = task.of.get(Kind.CHECK)
        if told is not None:
            result = verdict.check_result
            result.type = _TYPES[self.checked[Kind.CHECK].spec.type]
            result.changes = told.rule.changes
            result.message = told.message
            value = told.rule.value
            if value is not None:
                if value.exit_code is not None:
                    result.exit_code = value.exit_code
                if value.http_status is not None:
                    result.http_status = value.http_status
                if value.connected is not None:
                    result.connected = value.connected
        return verdict
