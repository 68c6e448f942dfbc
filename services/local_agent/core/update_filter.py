"""What becomes of an update that passed validation, as an ordered table (Mesos: second filter inside the agent)."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.local_agent.core.model import TERMINAL_STATES

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesos.v1 import mesos_pb2
    from services.local_agent.core.model import Task

    Condition = Callable[["Arrived"], bool]


class Verdict(enum.Enum):
    """What the agent does with an update."""

    DROP = "dropped, never acknowledged"
    FORWARD_UNCHECKED = "delivered to the scheduler, never acknowledged"
    NOT_DELIVERED_YET = "Mesos' agent would abort here"
    ACKNOWLEDGE_ONLY = "acknowledged, not delivered"
    ACCEPT = "stored, acknowledged and delivered"


@dataclass(frozen=True)
class Arrived:
    """A status, the live task that it is for, the id of this agent, and whether the framework is torn down."""

    status: mesos_pb2.TaskStatus
    task: Task | None
    agent_id: str
    torn_down: bool = False

    @property
    def foreign(self) -> bool:
        """Meant for another agent."""
        return self.status.HasField("agent_id") and self.status.agent_id.value != self.agent_id

    @property
    def too_early(self) -> bool:
        """LAUNCH has not been sent."""
        return self.task is not None and not self.task.delivered and self.status.state not in TERMINAL_STATES


# The first row that holds decides.
RULES: tuple[tuple[str, Condition, Verdict], ...] = (
    ("agent_id of another agent", lambda arrived: arrived.foreign, Verdict.DROP),
    ("the framework is torn down", lambda arrived: arrived.torn_down, Verdict.DROP),
    (
        "task unknown to every executor of the framework, or its end is acknowledged",
        lambda arrived: arrived.task is None,
        Verdict.FORWARD_UNCHECKED,
    ),
    ("not terminal, and LAUNCH has not been sent", lambda arrived: arrived.too_early, Verdict.NOT_DELIVERED_YET),
    (
        "uuid seen before",
        lambda arrived: arrived.task is not None and arrived.status.uuid in arrived.task.seen,
        Verdict.ACKNOWLEDGE_ONLY,
    ),
    (
        "task has already ended",
        lambda arrived: arrived.task is not None and arrived.task.terminal,
        Verdict.ACKNOWLEDGE_ONLY,
    ),
    ("otherwise", lambda _: True, Verdict.ACCEPT),
)


def judge(arrived: Arrived) -> Verdict:
    """The verdict of the first rule that holds."""
    return rule_for(arrived)[1]


def rule_for(arrived: Arrived) -> tuple[str, Verdict]:
    """The first rule that holds, in words, and its verdict."""
    return next((words, verdict) for words, condition, verdict in RULES if condition(arrived))
