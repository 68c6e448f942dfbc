"""One table from what happened to a task to what Mesos is told: state, reason, `healthy`, message.

Nothing else in the reporter names a Mesos state for a status, sets a reason or words a message.
"""

from __future__ import annotations

import enum
import logging
import math
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from mesos.v1 import mesos_pb2
from trivet.link.v1 import link_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 1024
"""Mesos keeps messages in memory and shows them everywhere (Mesos: message conventions)."""

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

ALLOWED_REASONS = frozenset(
    {
        mesos_pb2.TaskStatus.REASON_TASK_INVALID,
        mesos_pb2.TaskStatus.REASON_TASK_UNAUTHORIZED,
        mesos_pb2.TaskStatus.REASON_TASK_CHECK_STATUS_UPDATED,
        mesos_pb2.TaskStatus.REASON_TASK_HEALTH_CHECK_STATUS_UPDATED,
        mesos_pb2.TaskStatus.REASON_MAX_COMPLETION_TIME_REACHED,
    }
)
"""The reasons that belong to executors; all others are the agent's or the master's (Mesos: task state reasons)."""


class Situation(enum.Enum):
    """What there is to say about a task."""

    ACCEPTED = "accepted"
    RUNNING = "running"
    GATE_PASSED = "running, health gate passed"
    TURNED_HEALTHY = "turned healthy"
    TURNED_UNHEALTHY = "turned unhealthy"
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


_HEALTH = mesos_pb2.TaskStatus.REASON_TASK_HEALTH_CHECK_STATUS_UPDATED

TABLE: Mapping[Situation, Wording] = {
    Situation.ACCEPTED: Wording(mesos_pb2.TASK_STARTING, detailed=False),
    Situation.RUNNING: Wording(mesos_pb2.TASK_RUNNING, detailed=False),
    # Aurora's executor sends no reason with it; whoever watches `healthy` gets its first value here.
    Situation.GATE_PASSED: Wording(mesos_pb2.TASK_RUNNING, detailed=False, healthy=True),
    Situation.TURNED_HEALTHY: Wording(
        mesos_pb2.TASK_RUNNING, "Health check passed", detailed=False, reason=_HEALTH, healthy=True
    ),
    Situation.TURNED_UNHEALTHY: Wording(mesos_pb2.TASK_RUNNING, "Health check failed", reason=_HEALTH, healthy=False),
    Situation.BEING_KILLED: Wording(mesos_pb2.TASK_KILLING),
    Situation.REFUSED: Wording(
        mesos_pb2.TASK_ERROR,
        "Task validation failed",
        "Task validation failed: ",
        reason=mesos_pb2.TaskStatus.REASON_TASK_INVALID,
    ),
    # Aurora reads ERROR as LOST and starts the same bad task again, for ever; FAILED counts against its limit.
    Situation.REFUSED_AURORA: Wording(mesos_pb2.TASK_FAILED, "Task validation failed", "Task validation failed: "),
    Situation.OVERTIME: Wording(
        mesos_pb2.TASK_FAILED,
        "Maximum completion time reached",
        reason=mesos_pb2.TaskStatus.REASON_MAX_COMPLETION_TIME_REACHED,
    ),
    Situation.ENDED_UNHEALTHY: Wording(
        mesos_pb2.TASK_FAILED, "Failed health check", "Failed health check: ", healthy=False
    ),
    # With KILLED the flag is all that tells schedulers this end from one that they asked for.
    Situation.KILLED_UNHEALTHY: Wording(
        mesos_pb2.TASK_KILLED, "Killed by failing health check", "Killed by failing health check: ", healthy=False
    ),
    # Reasons 8, 19 and 20 belong to the agent's isolators and carry a `limitation`; the text says it here.
    Situation.DISK_LIMIT: Wording(mesos_pb2.TASK_FAILED, "Disk limit exceeded"),
    Situation.KILLED_ON_REQUEST: Wording(mesos_pb2.TASK_KILLED, "Killed by request"),
    Situation.KILLED_BY_OPERATOR: Wording(mesos_pb2.TASK_KILLED, "Killed by an operator"),
    Situation.KILLED_BY_SHUTDOWN: Wording(mesos_pb2.TASK_KILLED, "Executor shutdown"),
    Situation.KILLED_WITHOUT_AGENT: Wording(mesos_pb2.TASK_KILLED, "Agent gone"),
    Situation.FINISHED: Wording(mesos_pb2.TASK_FINISHED, "Task finished"),
    Situation.FAILED: Wording(mesos_pb2.TASK_FAILED, "Task failed"),
    Situation.KILLED: Wording(mesos_pb2.TASK_KILLED, "Task killed"),
    # The runner's LOST: nobody knows how the processes ended. A terminal status is only delivered once they are proven
    # gone, and the task had been started. A partition-aware framework reads LOST's heirs as "never started" (DROPPED)
    # or "the agent is gone" (GONE): neither is true, so it is FAILED (Mesos: FAILED when termination info is lost).
    # A framework without the capability knows LOST as "start it again, not the task's fault": what Thermos sends.
    Situation.LOST: Wording(mesos_pb2.TASK_LOST, "Runner lost", "Runner lost: "),
    Situation.LOST_PARTITION_AWARE: Wording(mesos_pb2.TASK_FAILED, "Runner lost", "Runner lost: "),
    # An operator's `lose`: the same two states for the same reasons, in his own words.
    Situation.GIVEN_UP: Wording(mesos_pb2.TASK_LOST, "Given up by an operator"),
    Situation.GIVEN_UP_PARTITION_AWARE: Wording(mesos_pb2.TASK_FAILED, "Given up by an operator"),
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
    # The runner knows whose health check it was: Aurora's fail a task, Mesos' kill it.
    End(link_pb2.END_CAUSE_UNHEALTHY, link_pb2.TASK_PHASE_KILLED, False, None, Situation.KILLED_UNHEALTHY),
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


def one_line(text: str) -> str:
    """Text as Mesos may carry it: valid UTF-8, one line, at most `MAX_MESSAGE_BYTES` bytes."""
    if not text.isprintable():
        # Mesos passes broken text on, and strict schedulers stumble over it again with each retry.
        text = " ".join("".join(c if c.isprintable() else _stand_in(c) for c in text).split())
    encoded = text.encode()
    if len(encoded) <= MAX_MESSAGE_BYTES:
        return text
    return encoded[: MAX_MESSAGE_BYTES - 3].decode(errors="ignore") + "..."


def _stand_in(c: str) -> str:
    return "\N{REPLACEMENT CHARACTER}" if "\ud800" <= c <= "\udfff" else " "


class StatusWriter:
    """Writes statuses by the table. Counts in `refused` what the whitelist of reasons held back."""

    def __init__(self, table: Mapping[Situation, Wording] = TABLE) -> None:
        self._table = table
        self.refused: Counter[int] = Counter()

    def write(
        self, situation: Situation, *, task_id: str, detail: str, health_checked: bool, timestamp: float
    ) -> mesos_pb2.TaskStatus:
        """A status for `situation`.

        Args:
            situation: The row of the table.
            task_id: The task's Mesos id.
            detail: What the runner or health said, for people; may be empty.
            health_checked: The task defines a health check; `healthy` is left out otherwise.
            timestamp: Wall clock, seconds: when it was decided.
        """
        wording = self._table[situation]
        status = mesos_pb2.TaskStatus(state=wording.state)
        status.task_id.value = task_id
        if math.isfinite(timestamp):
            status.timestamp = timestamp
        message = _message(wording, detail)
        if message:
            status.message = message
        if health_checked and wording.healthy is not None:
            status.healthy = wording.healthy
        if wording.reason is not None:
            if wording.reason in ALLOWED_REASONS:
                status.reason = wording.reason
            else:
                # Fail closed: no reason is always allowed, a wrong one makes schedulers act on what did not happen.
                self.refused[wording.reason] += 1
                logger.error("task %s: reason %d is not an executor's: left out", task_id, wording.reason)
        return status


def _message(wording: Wording, detail: str) -> str:
    detail = one_line(detail).strip() if wording.detailed else ""
    if not detail:
        return wording.text
    return one_line(detail if detail.startswith(wording.prefix) else wording.prefix + detail)
