"""What becomes of an update that passed validation, as an ordered table (Mesos: second filter inside the agent)."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from services.local_agent.core.model import TERMINAL_STATES

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesos.v1 import mesos_pb2
    from services.local_agent.core.model import Task

    Condition = Callable[[mesos_pb2.TaskStatus, Task | None, str], bool]


class Verdict(enum.Enum):
    """What the agent does with an update."""

    DROP = "dropped, never acknowledged"
    FORWARD_UNCHECKED = "delivered to the scheduler, never acknowledged"
    NOT_DELIVERED_YET = "Mesos' agent would abort here"
    ACKNOWLEDGE_ONLY = "acknowledged, not delivered"
    ACCEPT = "stored, acknowledged and delivered"


# Status, the live task that it is for, id of this agent. The first row that holds decides.
RULES: tuple[tuple[str, Condition, Verdict], ...] = (
    (
        "agent_id of another agent",
        lambda status, _task, agent_id: status.HasField("agent_id") and status.agent_id.value != agent_id,
        Verdict.DROP,
    ),
    (
        "task unknown to every executor of the framework, or its end is acknowledged",
        lambda _status, task, _agent_id: task is None,
        Verdict.FORWARD_UNCHECKED,
    ),
    (
        "not terminal, and LAUNCH has not been sent",
        lambda status, task, _agent_id: not _delivered(task) and status.state not in TERMINAL_STATES,
        Verdict.NOT_DELIVERED_YET,
    ),
    (
        "uuid seen before",
        lambda status, task, _agent_id: task is not None and status.uuid in task.seen,
        Verdict.ACKNOWLEDGE_ONLY,
    ),
    (
        "task has already ended",
        lambda _status, task, _agent_id: task is not None and task.terminal,
        Verdict.ACKNOWLEDGE_ONLY,
    ),
    ("otherwise", lambda _status, _task, _agent_id: True, Verdict.ACCEPT),
)


def judge(status: mesos_pb2.TaskStatus, task: Task | None, agent_id: str) -> Verdict:
    """The verdict of the first rule that holds."""
    return next(verdict for _, condition, verdict in RULES if condition(status, task, agent_id))


def _delivered(task: Task | None) -> bool:
    return task is not None and task.delivered
