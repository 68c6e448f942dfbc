"""What a driver passes on about a task, as events of its check."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesos.v1 import mesos_pb2
from services.health.model import Ending, Event, Remembered, Started
from services.health.rules import Memory
from trivet.link.v1 import link_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator


def event_of(state: link_pb2.TaskState) -> Event | None:
    """What the runner's view means here. Old views do no harm: a check never goes back."""
    if state.end_cause != link_pb2.END_CAUSE_UNSPECIFIED:
        return Ending()
    match state.phase:
        case link_pb2.TASK_PHASE_ACTIVE:
            return Started() if state.started else None
        case link_pb2.TASK_PHASE_UNSPECIFIED:
            return None
    return Ending()


def events_of(task: link_pb2.HelloTask) -> Iterator[Event]:
    """What a Hello says of a task, in the order in which it has to be taken in."""
    if task.HasField("verdict"):
        yield _remembered(task.verdict)
    if mesos_pb2.TASK_RUNNING in task.accepted_states:
        # It was called RUNNING, so it had passed, even if nobody remembers the verdict.
        yield Remembered(Memory(passed=True, healthy=None, dead=False, failures=0, successes=0), version=0, message="")
    if task.HasField("latch") or task.ends:
        yield Ending()
    if task.HasField("task_state"):
        event = event_of(task.task_state)
        if event is not None:
            yield event


def _remembered(verdict: link_pb2.Verdict) -> Remembered:
    memory = Memory(
        passed=verdict.passed,
        healthy=verdict.healthy if verdict.HasField("healthy") else None,
        dead=verdict.dead,
        failures=verdict.consecutive_failures,
        successes=verdict.consecutive_successes,
    )
    return Remembered(memory, verdict.version, verdict.message)
