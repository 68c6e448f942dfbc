"""Health and check updates of a running task: what is news, and when it may be told. Pure: no clock, no I/O.

A status has one reason, so each kind of news gets an update of its own (Mesos: reasons 29 and 28), in turns if there is
news of both. What an update says of the other kind is true at that moment, too, so that neither hides the other.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

from mesos.v1 import mesos_pb2
from services.reporter.checks import status_of

if TYPE_CHECKING:
    from services.reporter.chain import Chain
    from trivet.link.v1 import link_pb2

UPDATE_INTERVAL = 1.0
"""Seconds between two RUNNING statuses of a task: agents store and forward each one (Mesos: latest-state semantics)."""

UNHEARD_INTERVAL = 10.0
"""Seconds between two updates of a kind while the agent does not acknowledge: an outage piles up few of them."""


class Kind(enum.Enum):
    """What an update is about: the reason that it carries."""

    HEALTH = mesos_pb2.TaskStatus.REASON_TASK_HEALTH_CHECK_STATUS_UPDATED
    CHECK = mesos_pb2.TaskStatus.REASON_TASK_CHECK_STATUS_UPDATED


class Told(NamedTuple):
    """Which news updates have told, each by an update of its own kind."""

    healthy: bool | None = None
    reports: int = 0
    """`Verdict.health_reports`."""
    changes: int = 0
    """`CheckResult.changes`."""


def kind_of(status: mesos_pb2.TaskStatus) -> Kind | None:
    """What a status is an update about, if it is one."""
    if status.state == mesos_pb2.TASK_RUNNING and status.HasField("reason"):
        for kind in Kind:
            if kind.value == status.reason:
                return kind
    return None


def alternating(task: link_pb2.HelloTask) -> bool:
    """Whether each RUNNING status of the task says the opposite of the one before it, the first one healthy.

    So it is when the task is gated, and nothing but changes of `healthy` is told (Aurora).
    """
    verdict = task.verdict
    return task.task_state.gated and not verdict.health_reports and not verdict.HasField("check_result")


def news(chain: Chain, state: link_pb2.TaskState) -> list[Kind]:
    """What there is to tell, now or later. Nothing while a RUNNING status of the task waits for its answer."""
    verdict = chain.verdict
    if chain.ending or chain.running_open or verdict is None:
        return []
    found = []
    told = chain.told
    # Unequal, not greater: a health service that lost its books may count from the start again.
    if (
        (state.health_checked or state.gated)
        and verdict.HasField("healthy")
        and (verdict.healthy, verdict.health_reports) != (told.healthy, told.reports)
    ):
        found.append(Kind.HEALTH)
    if verdict.check_result.changes != told.changes and status_of(verdict.check_result) is not None:
        found.append(Kind.CHECK)
    return found


def due_at(chain: Chain, kind: Kind, now: float) -> float:
    """The earliest time for an update of this kind: CLOCK_BOOTTIME, seconds."""
    waits = []
    if chain.running_at is not None:
        waits.append((chain.running_at, UPDATE_INTERVAL))
    if kind in chain.unheard:
        waits.append((chain.unheard[kind], UNHEARD_INTERVAL))
    # A time ahead of the clock is of another boot: no reason to wait for it.
    return max((since + interval for since, interval in waits if since <= now), default=now)


def next_kind(chain: Chain, state: link_pb2.TaskState, now: float) -> Kind | None:
    """What to tell now. If there is news of both kinds, that which was not told last."""
    due = [kind for kind in news(chain, state) if now >= due_at(chain, kind, now)]
    return min(due, key=lambda kind: kind is chain.newest, default=None)
