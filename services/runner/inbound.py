"""Messages of drivers as events of the task machine. What a newer driver says and we do not know is taken safely."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from mesos.v1 import mesos_pb2
from services.runner import inquiries
from services.runner.budgets import Request
from services.runner.events import VERDICTS, HandsSeen, LifecycleDone, Overruled
from services.runner.processes import Exit, HandsRun
from services.runner.records import Cause, Phase

if TYPE_CHECKING:
    from services.runner.events import Event
    from trivet.link.v1 import link_pb2

# What the plan's phase becomes when the driver has sent a status on its own; all other states mean LOST.
_LATCHED: dict[int, Phase] = {
    mesos_pb2.TASK_FINISHED: Phase.SUCCESS,
    mesos_pb2.TASK_FAILED: Phase.FAILED,
    mesos_pb2.TASK_ERROR: Phase.FAILED,
    mesos_pb2.TASK_KILLED: Phase.KILLED,
}


# Messages about one task.
KEYED = frozenset({"launch", "hands", "end", "latched", "forget", "lifecycle_done", *inquiries.KINDS})


def event(kind: str, content: Any) -> Event:
    """What one message about a known task means to it."""
    if kind == "hands":
        return hands(content.state, hello=False)
    if kind == "lifecycle_done":
        return LifecycleDone(content.step, content.answered, content.detail)
    return request(content.request) if kind == "end" else latched(content.latch)


def hands(state: link_pb2.HandsState, *, hello: bool) -> HandsSeen:
    """What the coordinator knows."""
    return HandsSeen([_run(run) for run in state.runs], state.alive, hello)


def request(end: link_pb2.EndRequest) -> Request:
    """An end request. A cause that only the runner itself can find, or that we do not know, is taken as a kill."""
    try:
        cause = Cause(end.cause)
    except ValueError:
        cause = Cause.KILL
    # INVALID comes from the driver when another task of the same group was refused; LOSE is for operators only.
    if cause not in VERDICTS or cause is Cause.LOSE:
        cause = Cause.KILL
    grace = end.grace_secs if end.HasField("grace_secs") and not math.isnan(end.grace_secs) else None
    deadline = end.deadline if math.isfinite(end.deadline) else 0.0
    return Request(cause, end.seq, grace, deadline, end.message)


def latched(latch: link_pb2.Latch) -> Overruled:
    """A terminal status that was sent."""
    known = latch.state in mesos_pb2.TaskState.values()
    name = mesos_pb2.TaskState.Name(latch.state) if known else str(latch.state)
    return Overruled(_LATCHED.get(latch.state, Phase.LOST), f"the executor has sent {name} already")


def hello_task(task: link_pb2.HelloTask) -> list[Event]:
    """Everything that a Hello says of one task."""
    events: list[Event] = [hands(task.hands, hello=True), *(request(end) for end in task.ends)]
    if task.HasField("latch"):
        events.append(latched(task.latch))
    return events


def _run(run: link_pb2.Run) -> HandsRun:
    exit_ = None
    if run.HasField("exit"):
        code = run.exit.code if run.exit.HasField("code") else None
        signal = run.exit.signal if run.exit.HasField("signal") else None
        exit_ = Exit(code, signal, run.exit.core_dumped)
    return HandsRun(
        process=run.process,
        run=run.run,
        state=run.state,
        pid=run.pid,
        start_ticks=run.start_ticks,
        exit=exit_,
        error=run.error,
        forked_at=_wall(run.forked_at),
        exited_at=_wall(run.exited_at),
    )


def _wall(seconds: float) -> float:
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0
