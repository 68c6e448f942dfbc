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

# Ends that must be obeyed in time, whoever is alive.
COMMANDS = frozenset({link_pb2.END_CAUSE_KILL, link_pb2.END_CAUSE_SHUTDOWN, link_pb2.END_CAUSE_AGENT_GONE})
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
    # Put a status from the fallback table into the outbox.
    REPORT = "report"


class Situation(NamedTuple):
    """Of one task. Times are CLOCK_BOOTTIME, seconds."""

    now: float
    launched_at: float
    service_deadline: float
    # The first command to end (KILL, SHUTDOWN, agent gone); None: none.
    commanded_at: float | None
    # The executor itself has to end (SHUTDOWN, agent gone).
    executor_ends: bool
    # When the coordinator kills what is left.
    deadline: float
    # The driver has already sent SIGTERM by itself.
    terminated: bool
    # The runner has spoken of the task, ever; it has taken over its end; its phase; its link is up.
    accepted: bool
    answered: bool
    phase: int
    runner_up: bool
    alive: int
    # Since when nothing of the task has been alive.
    empty_since: float
    partition_aware: bool


class Step(NamedTuple):
    """What to do; when to look again (infinity: when something happens)."""

    do: Do
    at: float
    # Name of a mesos.v1.TaskState, and the message, for REPORT.
    state: str = ""
    message: str = ""


NEVER = Step(Do.NOTHING, float("inf"))


def next_step(s: Situation) -> Step:
    """The driver's next step for a task that has no terminal status yet."""
    if s.commanded_at is None:
        return _without_runner(s)
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
    return _report(s, at, "TASK_KILLED", "Killed without the services' help")


def _without_runner(s: Situation) -> Step:
    if s.accepted:
        return NEVER
    state = "TASK_DROPPED" if s.partition_aware else "TASK_LOST"
    return _report(s, s.launched_at + s.service_deadline, state, "Runner unavailable: nothing was started")


def _over(s: Situation) -> Step:
    """The runner has ended the task; only the reporter's word is missing."""
    # Of a task that came to its own end the reporter has more to say: it gets more time, unless the executor goes.
    presses = s.executor_ends or s.phase == link_pb2.TASK_PHASE_KILLED
    at = max(s.commanded_at or 0.0, s.empty_since) + (ANSWER_SECS if presses else PATIENCE_SECS)
    return _report(s, at, _OVER[s.phase], "Ended; the reporter did not answer in time")


def _report(s: Situation, at: float, state: str, message: str) -> Step:
    if s.now >= at:
        return Step(Do.REPORT, at, state, message)
    return Step(Do.NOTHING, at)


def shutdown_deadline(now: float, grace: float) -> float:
    """When everything must be dead after SHUTDOWN with a grace period of `grace` seconds."""
    return now if grace < MIN_SHUTDOWN_GRACE else now + grace - SHUTDOWN_MARGIN
