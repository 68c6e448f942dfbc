"""One table from what happened to a task to what Mesos is told: state, reason, `healthy`, message.

Nothing else in the reporter names a Mesos state for a status, sets a reason or words a message. `check_status` has
no column: whatever a status is about, it carries the newest result of the task's check. docs/reasons.md is made from
this table.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

from mesos.v1 import mesos_pb2
from trivet.link.v1 import link_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping

TERMINAL_PHASES = frozenset(
    {
        link_pb2.TASK_PHASE_SUCCESS,
        link_pb2.TASK_PHASE_FAILED,
        link_pb2.TASK_PHASE_KILLED,
        link_pb2.TASK_PHASE_LOST,
    }
)

TERMINAL_STATES = frozenset(
    {
        mesos_pb2.TASK_FINISHED,
        mesos_pb2.TASK_FAILED,
        mesos_pb2.TASK_KILLED,
        mesos_pb2.TASK_ERROR,
        mesos_pb2.TASK_LOST,
        mesos_pb2.TASK_DROPPED,
        mesos_pb2.TASK_GONE,
        mesos_pb2.TASK_GONE_BY_OPERATOR,
    }
)


class Situation(enum.Enum):
    """What there is to say about a task."""

    ACCEPTED = "accepted"
    RUNNING = "running"
    GATE_PASSED = "running, health gate passed"
    GATE_PASSED_MESOS = "running, Mesos' health gate passed"
    TURNED_HEALTHY = "turned healthy"
    TURNED_UNHEALTHY = "turned unhealthy"
    CHECK_CHANGED = "check result changed"
    BEING_KILLED = "being killed"
    REFUSED = "refused"
    REFUSED_AURORA = "refused, Aurora's data"
    OVERTIME = "completion time reached"
    ENDED_UNHEALTHY = "ended by health"
    KILLED_UNHEALTHY = "killed by health"
    DISK_LIMIT = "disk limit"
    KILLED_ON_REQUEST = "killed on request"
    KILLED_BY_OPERATOR = "killed by an operator"
    KILLED_BY_SHUTDOWN = "killed by shutdown"
    KILLED_WITHOUT_AGENT = "killed, agent gone"
    FINISHED = "finished"
    FAILED = "failed"
    KILLED = "killed"
    GIVEN_UP = "given up by an operator"
    GIVEN_UP_PARTITION_AWARE = "given up by an operator, partition-aware framework"
    LOST = "lost"
    LOST_PARTITION_AWARE = "lost, partition-aware framework"


class Wording(NamedTuple):
    """One row of the table. None or "": the field stays unset."""

    state: mesos_pb2.TaskState
    text: str = ""
    """The message when there is no detail."""
    prefix: str = ""
    """Put in front of the detail."""
    detailed: bool = True
    """Whether the detail is shown at all."""
    reason: mesos_pb2.TaskStatus.Reason | None = None
    healthy: bool | None = None
    """Only sent for tasks that define a health check."""
    keeps_healthy: bool = False
    """The status is not about health: `healthy` is what health sees now, if anything."""
    apart: str = ""
    """A detail that begins so speaks for itself: no prefix."""
    when: str = ""
    """When it is sent, for authors of frameworks."""
    example: str = ""
    """A detail as the runner or health words it."""


_RUNNING = mesos_pb2.TASK_RUNNING
_KILLED = mesos_pb2.TASK_KILLED
_FAILED = mesos_pb2.TASK_FAILED
_HEALTH = mesos_pb2.TaskStatus.REASON_TASK_HEALTH_CHECK_STATUS_UPDATED
_CHECK = mesos_pb2.TaskStatus.REASON_TASK_CHECK_STATUS_UPDATED
_INVALID = mesos_pb2.TaskStatus.REASON_TASK_INVALID
_OVERTIME = mesos_pb2.TaskStatus.REASON_MAX_COMPLETION_TIME_REACHED
_SIGNED_OFF = "the executor itself has to end"

TABLE: Mapping[Situation, Wording] = {
    Situation.ACCEPTED: Wording(
        mesos_pb2.TASK_STARTING, detailed=False, when="the task has been read and found valid; nothing is started yet"
    ),
    Situation.RUNNING: Wording(_RUNNING, detailed=False, when="a process has been started, and no health check gates"),
    # Aurora's executor sends no reason with it; whoever watches `healthy` gets its first value here.
    Situation.GATE_PASSED: Wording(
        _RUNNING, detailed=False, healthy=True, when="Aurora's health check has passed for the first time"
    ),
    # What Mesos' own executors tell in an update of its own.
    Situation.GATE_PASSED_MESOS: Wording(
        _RUNNING,
        "Health check passed",
        reason=_HEALTH,
        healthy=True,
        when="Mesos' health check has passed for the first time, and the task's label makes RUNNING wait for that",
        example="HTTP health check passed",
    ),
    Situation.TURNED_HEALTHY: Wording(
        _RUNNING,
        "Health check passed",
        reason=_HEALTH,
        healthy=True,
        when="a success that is the first one (without a gate) or comes after failures that counted",
        example="HTTP health check passed",
    ),
    Situation.TURNED_UNHEALTHY: Wording(
        _RUNNING,
        "Health check failed",
        reason=_HEALTH,
        healthy=False,
        when="Mesos' health check: each failure that counts; Aurora's: the first one after a success",
        example="HTTP health check failed (2/3): status 503, expected status 200-399",
    ),
    Situation.CHECK_CHANGED: Wording(
        _RUNNING,
        "Check result changed",
        reason=_CHECK,
        keeps_healthy=True,
        when="the result of `TaskInfo.check` has changed, in value or in whether there is one",
        example="HTTP check: status 200 -> 503",
    ),
    Situation.BEING_KILLED: Wording(
        mesos_pb2.TASK_KILLING,
        when="somebody ends the task, and the framework has the capability TASK_KILLING_STATE. Never for jobs in "
        "Aurora's form, nor for the completion time",
        example="Killed by request",
    ),
    Situation.REFUSED: Wording(
        mesos_pb2.TASK_ERROR,
        "Task validation failed",
        "Task validation failed: ",
        reason=_INVALID,
        apart="Task group rejected",
        when="the task, or another one of its group, is not valid: nothing was started. It is the only status",
        example="processes[2].cmdline: is required",
    ),
    # Aurora reads ERROR as LOST and starts the same bad task again, for ever; FAILED counts against its limit.
    Situation.REFUSED_AURORA: Wording(
        _FAILED,
        "Task validation failed",
        "Task validation failed: ",
        apart="Task group rejected",
        when="the same, of a task in Aurora's form",
        example="processes[2].cmdline: is required",
    ),
    Situation.OVERTIME: Wording(
        _FAILED,
        "Maximum completion time reached",
        reason=_OVERTIME,
        when="`TaskInfo.max_completion_time` is over: killed without grace",
        example="The task ran longer than its max_completion_time",
    ),
    # Aurora's words.
    Situation.ENDED_UNHEALTHY: Wording(
        _FAILED,
        "Failed health check!",
        "Failed health check! ",
        healthy=False,
        when="Aurora's health check has ended the task",
        example="HTTP health check failed: timed out after 1 s (2 failures in a row, 1 allowed)",
    ),
    # With KILLED the flag is all that tells schedulers this end from one that they asked for.
    Situation.KILLED_UNHEALTHY: Wording(
        _KILLED,
        "Killed by failing health check",
        "Killed by failing health check: ",
        healthy=False,
        when="Mesos' health check has ended the task",
        example="HTTP health check failed (3/3): status 503, expected status 200-399",
    ),
    # Reasons 8, 19 and 20 belong to the agent's isolators and carry a `limitation`; the text says it here.
    Situation.DISK_LIMIT: Wording(
        _FAILED,
        "Disk limit exceeded",
        when="the sandbox has outgrown the task's reservation",
        example="Disk limit exceeded: the sandbox takes 2097152 bytes, reserved are 1048576",
    ),
    Situation.KILLED_ON_REQUEST: Wording(
        _KILLED, "Killed by request", when="KILL was received, or another task of the group has failed or was killed"
    ),
    Situation.KILLED_BY_OPERATOR: Wording(
        _KILLED, "Killed by an operator", when="an operator has ended it (`trivet kill`)"
    ),
    Situation.KILLED_BY_SHUTDOWN: Wording(_KILLED, "Executor shutdown", when=f"SHUTDOWN was received: {_SIGNED_OFF}"),
    Situation.KILLED_WITHOUT_AGENT: Wording(
        _KILLED, "Agent gone", when=f"the agent has not come back in its recovery time: {_SIGNED_OFF}"
    ),
    Situation.FINISHED: Wording(
        mesos_pb2.TASK_FINISHED,
        "Task finished",
        when="all processes that matter have succeeded",
        example="Task completed",
    ),
    Situation.FAILED: Wording(
        _FAILED,
        "Task failed",
        when="too many processes have failed, or none of the rest can ever run",
        example="process 'web' failed: exit code 3 (run 2 of at most 2)",
    ),
    Situation.KILLED: Wording(_KILLED, "Task killed", when="it was killed, and nobody knows by whom any more"),
    # The runner's LOST: nobody knows how the processes ended. A terminal status is only delivered once they are proven
    # gone, and the task had been started. A partition-aware framework reads LOST's heirs as "never started" (DROPPED)
    # or "the agent is gone" (GONE): neither is true, so it is FAILED (Mesos: FAILED when termination info is lost).
    # A framework without the capability knows LOST as "start it again, not the task's fault": what Thermos sends.
    Situation.LOST: Wording(
        mesos_pb2.TASK_LOST,
        "Runner lost",
        "Runner lost: ",
        when="its processes are gone, and how they ended is not known; the framework is not partition-aware",
    ),
    Situation.LOST_PARTITION_AWARE: Wording(
        _FAILED, "Runner lost", "Runner lost: ", when="the same, and the framework is partition-aware"
    ),
    # An operator's `lose`: the same two states for the same reasons, in his own words.
    Situation.GIVEN_UP: Wording(
        mesos_pb2.TASK_LOST,
        "Given up by an operator",
        when="an operator has given it up (`trivet kill --lose`); the framework is not partition-aware",
    ),
    Situation.GIVEN_UP_PARTITION_AWARE: Wording(
        _FAILED, "Given up by an operator", when="the same, and the framework is partition-aware"
    ),
}


class End(NamedTuple):
    """One row of the table of ends; None matches everything."""

    cause: link_pb2.EndCause | None
    phase: link_pb2.TaskPhase | None
    aurora: bool | None
    partition_aware: bool | None
    situation: Situation


# The first row that matches holds. The recorded cause goes before the phase: a task that ends with success while it is
# being killed was killed all the same.
ENDS: tuple[End, ...] = (
    End(link_pb2.END_CAUSE_INVALID, None, True, None, Situation.REFUSED_AURORA),
    End(link_pb2.END_CAUSE_INVALID, None, False, None, Situation.REFUSED),
    End(link_pb2.END_CAUSE_COMPLETION_TIME, None, None, None, Situation.OVERTIME),
    # The runner knows whose health check it was: Aurora's fail a task, Mesos' kill it, in whatever form it came.
    End(link_pb2.END_CAUSE_UNHEALTHY, link_pb2.TASK_PHASE_KILLED, None, None, Situation.KILLED_UNHEALTHY),
    End(link_pb2.END_CAUSE_UNHEALTHY, None, None, None, Situation.ENDED_UNHEALTHY),
    End(link_pb2.END_CAUSE_DISK_LIMIT, None, None, None, Situation.DISK_LIMIT),
    End(link_pb2.END_CAUSE_KILL, None, None, None, Situation.KILLED_ON_REQUEST),
    End(link_pb2.END_CAUSE_OPERATOR, None, None, None, Situation.KILLED_BY_OPERATOR),
    End(link_pb2.END_CAUSE_SHUTDOWN, None, None, None, Situation.KILLED_BY_SHUTDOWN),
    End(link_pb2.END_CAUSE_AGENT_GONE, None, None, None, Situation.KILLED_WITHOUT_AGENT),
    End(link_pb2.END_CAUSE_LOSE, None, None, True, Situation.GIVEN_UP_PARTITION_AWARE),
    End(link_pb2.END_CAUSE_LOSE, None, None, False, Situation.GIVEN_UP),
    End(None, link_pb2.TASK_PHASE_SUCCESS, None, None, Situation.FINISHED),
    End(None, link_pb2.TASK_PHASE_FAILED, None, None, Situation.FAILED),
    End(None, link_pb2.TASK_PHASE_KILLED, None, None, Situation.KILLED),
    End(None, link_pb2.TASK_PHASE_LOST, None, True, Situation.LOST_PARTITION_AWARE),
    End(None, link_pb2.TASK_PHASE_LOST, None, False, Situation.LOST),
)


def end_of(state: link_pb2.TaskState, *, partition_aware: bool) -> Situation:
    """How a task ended whose phase is terminal.

    Raises:
        ValueError: The phase is not terminal.
    """
    if state.phase in TERMINAL_PHASES:
        for row in ENDS:
            if (
                row.cause in (None, state.end_cause)
                and row.phase in (None, state.phase)
                and row.aurora in (None, state.aurora)
                and row.partition_aware in (None, partition_aware)
            ):
                return row.situation
    raise ValueError(f"phase {state.phase} is not terminal")
