"""The chain of runner state, health verdict and end cause: which status comes next. Pure: no clock, no I/O.

A chain only ever moves forward through its stages. A missing verdict is no veto: it holds RUNNING back only when the
task is gated on its health (Thermos: status checkers).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from mesos.v1 import mesos_pb2
from services.reporter.checks import status_of
from services.reporter.mapping import TERMINAL_PHASES, TERMINAL_STATES, Situation, end_of
from services.reporter.updates import Kind, Told, due_at, kind_of, news, next_kind
from trivet.link.v1 import link_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Stage(enum.IntEnum):
    """How far a task's statuses have come. Numbers grow along the only allowed walk."""

    NEW = 0
    STARTING = 1
    RUNNING = 2
    KILLING = 3
    OVER = 4


def stage_of(state: int) -> Stage:
    """The stage that a status of this mesos.v1.TaskState number stands for; NEW for one that no executor sends."""
    if state in TERMINAL_STATES:
        return Stage.OVER
    return _STAGES.get(state, Stage.NEW)


_STAGES: dict[int, Stage] = {
    mesos_pb2.TASK_STARTING: Stage.STARTING,
    mesos_pb2.TASK_RUNNING: Stage.RUNNING,
    mesos_pb2.TASK_KILLING: Stage.KILLING,
}


class Framework(NamedTuple):
    """What the framework understands."""

    partition_aware: bool = False
    task_killing_state: bool = False


class Step(NamedTuple):
    """One status to propose."""

    situation: Situation
    detail: str = ""
    health_checked: bool = False
    healthy: bool | None = None
    """As health sees it now, for statuses about something else."""
    check_status: mesos_pb2.CheckStatusInfo | None = None
    """The newest result of the task's check; None: it has none, or there is nothing known of it."""
    told: Told | None = None
    """What updates have told when this status is out; None: what they have told before."""


@dataclass(slots=True)
class Chain:
    """Everything that the next status of one task depends on."""

    stage: Stage = Stage.NEW
    state: link_pb2.TaskState | None = None
    verdict: link_pb2.Verdict | None = None
    framework: Framework = field(default_factory=Framework)
    ending: bool = False
    """An end was asked for or seen. From then on the task is never called RUNNING (again)."""
    told: Told = field(default_factory=Told)
    running_at: float | None = None
    """When the newest RUNNING status was decided: CLOCK_BOOTTIME, seconds."""
    running_open: bool = False
    """A RUNNING status has not been answered by the driver."""
    newest: Kind | None = None
    """What the newest update was about."""
    unheard: dict[Kind, float] = field(default_factory=dict)
    """When the newest update of a kind was decided, unless the agent has acknowledged it: CLOCK_BOOTTIME, seconds."""

    @property
    def told_healthy(self) -> bool | None:
        """`healthy` of the newest status that was about it."""
        return self.told.healthy

    def take_state(self, state: link_pb2.TaskState, *, whole: bool = False) -> bool:
        """Take in the runner's view; false when it is older than what is known.

        `whole`: it comes with a Hello, which is all that is true now, so that its version does not matter. A runner
        that has rebuilt a task may count from the start again.
        """
        known = self.state
        if known is not None and not whole and state.version < known.version and (known.rebuilt or not state.rebuilt):
            return False
        self.state = state
        if state.end_cause != link_pb2.END_CAUSE_UNSPECIFIED or state.phase in TERMINAL_PHASES:
            self.ending = True
        return True

    def take_verdict(self, verdict: link_pb2.Verdict, *, whole: bool = False) -> bool:
        """Take in health's view; false when it is older than what is known. `whole` as in `take_state`."""
        if self.verdict is not None and not whole and verdict.version < self.verdict.version:
            return False
        self.verdict = verdict
        return True

    def take_accepted(self, states: Iterable[int], *, gated: bool) -> None:
        """Go on where an earlier reporter, whose journal is lost, had come to.

        Args:
            states: mesos.v1.TaskState numbers of all statuses that the driver has accepted, oldest first.
            gated: The task is gated, and nothing but changes of `healthy` is told of it: see `updates.alternating`.
        """
        running = 0
        for state in states:
            self.stage = max(self.stage, stage_of(state))
            running += state == mesos_pb2.TASK_RUNNING
        # The first RUNNING of a gated task says healthy, and each later one the opposite of the one before it. Without
        # a gate, or with other updates in between, what was told is unknown: it is told again, once.
        self.told = self.told._replace(healthy=running % 2 == 1 if gated and running else None)

    def advance(self, status: mesos_pb2.TaskStatus, at: float, told: Told | None = None) -> None:
        """A status was decided.

        Args:
            status: The status.
            at: When: CLOCK_BOOTTIME, seconds.
            told: What updates have told now; None: the status alone says it (records of an earlier version).
        """
        self.stage = max(self.stage, stage_of(status.state))
        if status.state == mesos_pb2.TASK_RUNNING:
            self.running_at = at
            self.running_open = True
            kind = kind_of(status)
            if kind is not None:
                self.newest = kind
            if told is None and kind is not Kind.CHECK:
                told = self.told._replace(healthy=status.healthy if status.HasField("healthy") else None)
        if told is not None:
            self.told = told

    def next_step(self, now: float) -> Step | None:
        """The status to propose now, if any. After `advance` there may be another one."""
        if self.state is None or self.stage is Stage.OVER:
            return None
        for row in TRANSITIONS:
            if self.stage in row.stages and row.when(self, self.state, now):
                return self._complete(row.say(self, self.state, now), self.state)
        return None

    def _complete(self, step: Step, state: link_pb2.TaskState) -> Step:
        """The step with what every status may have to say, whatever it is about."""
        verdict = self.verdict
        return step._replace(
            health_checked=state.health_checked or state.gated,
            healthy=verdict.healthy if verdict is not None and verdict.HasField("healthy") else None,
            check_status=None if verdict is None else status_of(verdict.check_result),
            told=self.told if step.told is None else step.told,
        )

    def next_wakeup(self, now: float) -> float | None:
        """When to ask for the next step again although nothing arrives: CLOCK_BOOTTIME, seconds."""
        if self.stage is not Stage.RUNNING or self.state is None:
            return None
        return min((due_at(self, kind, now) for kind in news(self, self.state)), default=None)


def _refused(_: Chain, state: link_pb2.TaskState, __: float) -> bool:
    return state.end_cause == link_pb2.END_CAUSE_INVALID and state.phase in TERMINAL_PHASES


def _accepted(_: Chain, state: link_pb2.TaskState, __: float) -> bool:
    return state.phase >= link_pb2.TASK_PHASE_ACTIVE and state.end_cause != link_pb2.END_CAUSE_INVALID


def _may_run(chain: Chain, state: link_pb2.TaskState, _: float) -> bool:
    if not state.started or chain.ending:
        return False
    verdict = chain.verdict
    if verdict is None:
        return not state.gated
    # Already given up by health: the end is on its way, and an Aurora update would count RUNNING as success.
    return not verdict.dead and (verdict.passed or not state.gated)


def _update_due(chain: Chain, state: link_pb2.TaskState, now: float) -> bool:
    return next_kind(chain, state, now) is not None


def _being_killed(chain: Chain, state: link_pb2.TaskState, _: float) -> bool:
    return (
        chain.framework.task_killing_state
        and state.phase not in TERMINAL_PHASES
        and state.end_cause in KILLING_CAUSES
        # Aurora's scheduler takes KILLING for the end of the task.
        and not state.aurora
    )


def _over(_: Chain, state: link_pb2.TaskState, __: float) -> bool:
    return state.phase in TERMINAL_PHASES


KILLING_CAUSES = frozenset(
    {
        link_pb2.END_CAUSE_KILL,
        link_pb2.END_CAUSE_SHUTDOWN,
        link_pb2.END_CAUSE_UNHEALTHY,
        link_pb2.END_CAUSE_DISK_LIMIT,
        link_pb2.END_CAUSE_AGENT_GONE,
        link_pb2.END_CAUSE_OPERATOR,
    }
)
"""Somebody ends the task. Not the completion time: that end has no grace, and Mesos' own executors skip KILLING."""


def _say(situation: Situation) -> Callable[[Chain, link_pb2.TaskState, float], Step]:
    def say(_: Chain, state: link_pb2.TaskState, __: float) -> Step:
        return Step(situation, state.message)

    return say


def _say_running(chain: Chain, state: link_pb2.TaskState, _: float) -> Step:
    if not state.gated:
        return Step(Situation.RUNNING)
    verdict = chain.verdict or link_pb2.Verdict()
    told = Told(healthy=True, reports=verdict.health_reports, changes=chain.told.changes)
    if not verdict.health_reports:
        return Step(Situation.GATE_PASSED, told=told)
    # Only Mesos' rule counts reports: it is Mesos' health check that gates, and its first success that is told here.
    return Step(Situation.GATE_PASSED_MESOS, verdict.message if verdict.healthy else "", told=told)


def _say_update(chain: Chain, state: link_pb2.TaskState, now: float) -> Step:
    verdict = chain.verdict or link_pb2.Verdict()
    if next_kind(chain, state, now) is Kind.CHECK:
        result = verdict.check_result
        return Step(Situation.CHECK_CHANGED, result.message, told=chain.told._replace(changes=result.changes))
    situation = Situation.TURNED_HEALTHY if verdict.healthy else Situation.TURNED_UNHEALTHY
    told = Told(verdict.healthy, verdict.health_reports, chain.told.changes)
    return Step(situation, verdict.message, told=told)


def _say_end(chain: Chain, state: link_pb2.TaskState, _: float) -> Step:
    situation = end_of(state, partition_aware=chain.framework.partition_aware)
    detail = state.message
    if not detail and state.end_cause == link_pb2.END_CAUSE_UNHEALTHY and chain.verdict is not None:
        detail = chain.verdict.message
    return Step(situation, detail)


class Transition(NamedTuple):
    """In one of `stages` and `when` holds: `say` this, which moves the chain to `to`."""

    stages: tuple[Stage, ...]
    when: Callable[[Chain, link_pb2.TaskState, float], bool]
    to: Stage
    say: Callable[[Chain, link_pb2.TaskState, float], Step]


# The first row that holds is taken.
TRANSITIONS: tuple[Transition, ...] = (
    Transition((Stage.NEW,), _refused, Stage.OVER, _say_end),
    Transition((Stage.NEW,), _accepted, Stage.STARTING, _say(Situation.ACCEPTED)),
    Transition((Stage.STARTING,), _may_run, Stage.RUNNING, _say_running),
    Transition((Stage.RUNNING,), _update_due, Stage.RUNNING, _say_update),
    Transition((Stage.STARTING, Stage.RUNNING), _being_killed, Stage.KILLING, _say(Situation.BEING_KILLED)),
    Transition((Stage.STARTING, Stage.RUNNING, Stage.KILLING), _over, Stage.OVER, _say_end),
)
