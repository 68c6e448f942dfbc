"""What a driver passes on about a task, as events of its checks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesos.v1 import mesos_pb2
from services.health.interpret import Value
from services.health.model import Ending, Event, Started
from services.health.rules import Memory
from services.health.verdict import Heard
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


def events_of(task: link_pb2.HelloTask) -> Iterator[Event | Heard]:
    """What a Hello says of a task, in the order in which it has to be taken in."""
    if task.HasField("verdict"):
        yield _heard(task.verdict)
    if mesos_pb2.TASK_RUNNING in task.accepted_states:
        # It was called RUNNING, so the gate was open, even if nobody remembers the verdict.
        yield Heard(0, Memory(passed=True, healthy=None, dead=False, failures=0, successes=0), message="")
    if task.HasField("latch") or task.ends:
        yield Ending()
    if task.HasField("task_state"):
        event = event_of(task.task_state)
        if event is not None:
            yield event


def _heard(verdict: link_pb2.Verdict) -> Heard:
    memory = Memory(
        passed=verdict.passed,
        healthy=verdict.healthy if verdict.HasField("healthy") else None,
        dead=verdict.dead,
        failures=verdict.consecutive_failures,
        successes=verdict.consecutive_successes,
        reports=verdict.health_reports,
        value=_value(verdict.check_result),
        changes=verdict.check_result.changes,
    )
    return Heard(verdict.version, memory, verdict.message, verdict.check_result.message)


def _value(result: link_pb2.CheckResult) -> Value | None:
    match result.WhichOneof("value"):
        case "exit_code":
            return Value(exit_code=result.exit_code)
        case "http_status":
            return Value(http_status=result.http_status)
        case "connected":
            return Value(connected=result.connected)
    return None
