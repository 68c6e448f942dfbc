"""What the driver does on its own when a task has to end and nobody thinks for it (design: how a task ends).

Pure: a situation in, one step out. The runner decides how a task ends; this is the belt for the case that it does not
answer, and the driver's fallback table of statuses.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from trivet.link.v1 import link_pb2

# The runner has this long to take over an end, and the reporter to propose the terminal status.
ANSWER_SECS = 1.0
# And this long when a task that is over by itself is killed: whoever kills it wants to hear of its end.
PATIENCE_SECS = 5.0
# Mesos: the time between SHUTDOWN and the container's destruction that is kept for statuses and their acknowledgement.
SHUTDOWN_MARGIN = 2.0
# Below this a grace period is not worth a SIGTERM.
MIN_SHUTDOWN_GRACE = 3.0
# A task's own default (Thermos: finalization_wait), and with final processes, until the runner tells better.
DEFAULT_GRACE = 60.0

# Ends that must be obeyed in time, whoever is alive. Completion time becomes one when the runner does not see to it.
COMMANDS = frozenset(
    {
        link_pb2.END_CAUSE_KILL,
        link_pb2.END_CAUSE_SHUTDOWN,
        link_pb2.END_CAUSE_AGENT_GONE,
        link_pb2.END_CAUSE_COMPLETION_TIME,
    }
)
OVERTIME = "The task ran longer than its max_completion_time"
# Behind what the driver knows of an end by itself: the framework's author must not look for more.
_ALONE = "told by the executor alone, as its {} did not answer in time"
_OVER: dict[int, str] = {
    link_pb2.TASK_PHASE_SUCCESS: "TASK_FINISHED",
    link_pb2.TASK_PHASE_FAILED: "TASK_FAILED",
    link_pb2.TASK_PHASE_KILLED: "TASK_KILLED",
    link_pb2.TASK_PHASE_LOST: "TASK_FAILED",
}


class Do(Enum):
    """A step that the driver takes itself."""

    NOTHING = "nothing"
    # SIGTERM now, SIGKILL at the deadline.
    TERMINATE = "terminate"
    # Over its completion time: end it at once, without grace.
    EXPIRE = "expire"
    # Put a status from the fallback table into the outbox.
    REPORT = "report"


class Situation(NamedTuple):
    """Of one task. Times are CLOCK_BOOTTIME, seconds."""

    now: float
    launched_at: float
    service_deadline: float
    # The first command to end; None: none. Its EndCause and message.
    commanded_at: float | None
    command: int
    command_message: str
    # The executor itself has to end (SHUTDOWN, agent gone).
    executor_ends: bool
    # When the coordinator kills what is left.
    deadline: float
    # The driver has already sent SIGTERM by itself.
    terminated: bool
    # When its max_completion_time is over; infinity: it has none, or nothing has been started yet.
    completes_at: float
    # The runner has spoken of the task, ever; why it ends it, 0: it does not; its phase and message; its link is up.
    accepted: bool
    cause: int
    phase: int
    message: str
    runner_up: bool
    alive: int
    # Since when nothing of the task has been alive.
    empty_since: float
    partition_aware: bool

    @property
    def answered(self) -> bool:
        """The runner has taken over the end."""
        return bool(self.cause)


class Step(NamedTuple):
    """What to do; when to look again (infinity: when something happens)."""

    do: Do
    at: float
    # Name of a mesos.v1.TaskState, the message, and the name of a reason or nothing, for REPORT.
    state: str = ""
    message: str = ""
    reason: str = ""


NEVER = Step(Do.NOTHING, float("inf"))


def next_step(s: Situation) -> Step:
    """The driver's next step for a task that has no terminal status yet."""
    if s.commanded_at is None:
        return _unasked(s)
    if not s.answered and not s.terminated:
        at = s.commanded_at + ANSWER_SECS
        return Step(Do.TERMINATE, at) if s.now >= at else Step(Do.NOTHING, at)
    if s.alive:
        return NEVER
    if s.phase in _OVER:
        return _over(s)
    # The runner may be between two final processes: while it is there, the deadline decides.
    waiting = s.answered and s.runner_up
    at = max(s.commanded_at, s.empty_since, s.deadline if waiting else 0.0) + ANSWER_SECS
    state = "TASK_FAILED" if s.command == link_pb2.END_CAUSE_COMPLETION_TIME else "TASK_KILLED"
    return _report(s, at, state, f"{s.command_message or 'Ended'} ({_ALONE.format('runner')})")


def _unasked(s: Situation) -> Step:
    """Nobody has commanded an end."""
    if s.accepted:
        return _overtime(s)
    state = "TASK_DROPPED" if s.partition_aware else "TASK_LOST"
    message = f"Runner unavailable for {s.service_deadline:g} s: nothing was started"
    return _report(s, s.launched_at + s.service_deadline, state, message)


def _overtime(s: Situation) -> Step:
    """The runner ends a task at its completion time. If a second later something of it lives, the driver does."""
    # Under another end the task has the time that this one gives it. Where nothing runs, nothing runs too long.
    if not s.alive or s.cause not in (link_pb2.END_CAUSE_UNSPECIFIED, link_pb2.END_CAUSE_COMPLETION_TIME):
        return NEVER
    at = s.completes_at + ANSWER_SECS
    return Step(Do.EXPIRE, at) if s.now >= at else Step(Do.NOTHING, at)


def _over(s: Situation) -> Step:
    """The runner has ended the task; only the reporter's word is missing."""
    # Of a task that came to its own end the reporter has more to say: it gets more time, unless the executor goes.
    presses = s.executor_ends or s.phase == link_pb2.TASK_PHASE_KILLED
    at = max(s.commanded_at or 0.0, s.empty_since) + (ANSWER_SECS if presses else PATIENCE_SECS)
    return _report(s, at, _OVER[s.phase], f"{s.message or 'Ended'} ({_ALONE.format('reporter')})")


def _report(s: Situation, at: float, state: str, message: str) -> Step:
    if s.now >= at:
        cause = s.cause or s.command
        overtime = cause == link_pb2.END_CAUSE_COMPLETION_TIME
        return Step(Do.REPORT, at, state, message, "REASON_MAX_COMPLETION_TIME_REACHED" if overtime else "")
    return Step(Do.NOTHING, at)


def shutdown_deadline(now: float, grace: float) -> float:
    """When everything must be dead after SHUTDOWN with a grace period of `grace` seconds."""
    return now if grace < MIN_SHUTDOWN_GRACE else now + grace - SHUTDOWN_MARGIN
