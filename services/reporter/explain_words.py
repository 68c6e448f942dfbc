"""What the runner, health and drivers say, as notes for people. The words of `ExplainTask` are all here."""

from __future__ import annotations

import math
import signal
from typing import TYPE_CHECKING

from mesos.v1 import mesos_pb2
from services.reporter import records as rec
from services.reporter.mapping import TERMINAL_PHASES
from services.reporter.writer import one_line
from trivet.link.v1 import link_pb2
from trivet.reporter.v1 import reporter_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from services.reporter.task import Entry

MAX_TEXT = 400
"""Characters of a note."""

RUNNER = reporter_pb2.SOURCE_RUNNER
HEALTH = reporter_pb2.SOURCE_HEALTH
REPORTER = reporter_pb2.SOURCE_REPORTER
DRIVER = reporter_pb2.SOURCE_DRIVER
AGENT = reporter_pb2.SOURCE_AGENT

_ASKERS: Mapping[int, str] = {
    link_pb2.END_CAUSE_KILL: "KILL of the scheduler",
    link_pb2.END_CAUSE_SHUTDOWN: "SHUTDOWN of the executor",
    link_pb2.END_CAUSE_UNHEALTHY: "health's verdict",
    link_pb2.END_CAUSE_DISK_LIMIT: "the disk limit",
    link_pb2.END_CAUSE_COMPLETION_TIME: "max_completion_time",
    link_pb2.END_CAUSE_AGENT_GONE: "the agent is gone",
    link_pb2.END_CAUSE_INVALID: "the task is refused",
    link_pb2.END_CAUSE_OPERATOR: "an operator",
    link_pb2.END_CAUSE_LOSE: "an operator, who gives the task up",
}
_PHASES: Mapping[int, str] = {
    link_pb2.TASK_PHASE_ACTIVE: "task accepted: its plan is carried out",
    link_pb2.TASK_PHASE_CLEANING: "all regular processes are being ended",
    link_pb2.TASK_PHASE_FINALIZING: "the final processes run",
    link_pb2.TASK_PHASE_SUCCESS: "task succeeded",
    link_pb2.TASK_PHASE_FAILED: "task failed",
    link_pb2.TASK_PHASE_KILLED: "task killed",
    link_pb2.TASK_PHASE_LOST: "task lost",
}
_REJECTIONS: Mapping[int, str] = {
    reporter_pb2.REJECTION_ALREADY_TERMINAL: "the task has its terminal status already",
    reporter_pb2.REJECTION_OUT_OF_ORDER: "a later state was accepted before",
    reporter_pb2.REJECTION_UNKNOWN_TASK: "the driver does not know the task",
}


def asker(cause: int) -> str:
    """Who or what wanted the end."""
    return _ASKERS.get(cause, f"cause {cause}")


def of_state(state: link_pb2.TaskState, wall: float) -> Iterator[rec.Noted]:
    """All that the runner's view tells, causes before what follows from them."""
    if state.phase == link_pb2.TASK_PHASE_ACTIVE:
        yield _phase(state, wall)
    if state.started:
        yield _noted(wall, RUNNER, reporter_pb2.TRACE_KIND_STARTED, "the first process has been started")
    happened = [_run_ended(end, wall) for end in state.run_ends]
    happened += [_ending(end, wall, first=not place) for place, end in enumerate(state.endings)]
    if state.end_cause and not state.endings:
        # A runner of an earlier version.
        happened.append(_ending(link_pb2.Ending(cause=state.end_cause, message=state.message), wall, first=True))
    # Stable: exits go before the end of the plan that follows from them in the same moment.
    yield from sorted(happened, key=lambda note: note.source_at)
    if state.phase != link_pb2.TASK_PHASE_ACTIVE and state.phase in _PHASES:
        yield _phase(state, wall)


def of_verdict(verdict: link_pb2.Verdict, wall: float) -> Iterator[rec.Noted]:
    """Health's opinion, and the newest result of the task's check; nothing if there is none of either."""
    detail = f": {verdict.message}" if verdict.message else ""
    text = ""
    if verdict.dead:
        text = f"the task has to end{detail}"
    elif verdict.HasField("healthy"):
        text = f"{'healthy' if verdict.healthy else 'unhealthy'}{detail}"
    elif detail:
        text = f"{'undecided' if verdict.passed else 'not passed yet'}{detail}"
    if text:
        yield _noted(wall, HEALTH, reporter_pb2.TRACE_KIND_HEALTH, text)
    if verdict.check_result.changes:
        text = verdict.check_result.message or "the result of the check has changed"
        yield _noted(wall, HEALTH, reporter_pb2.TRACE_KIND_CHECK, text)


def attached(generation: int, wall: float) -> rec.Noted:
    """A driver has said Hello."""
    return _noted(wall, DRIVER, reporter_pb2.TRACE_KIND_ATTACHED, f"driver attached (number {generation})")


def detached(wall: float) -> rec.Noted:
    """The driver's stream has ended."""
    return _noted(wall, REPORTER, reporter_pb2.TRACE_KIND_DETACHED, "the connection to the driver has ended")


def lost_end(wall: float) -> rec.Noted:
    """The driver knows more than the journal."""
    text = "the driver has accepted statuses that the journal does not have: what led to them is not known"
    return _noted(wall, REPORTER, reporter_pb2.TRACE_KIND_GAP, text)


def unknown_beginning(accepted: tuple[int, ...]) -> rec.Noted:
    """The journal began when the task had statuses already. Without a time: made when it is asked for."""
    names = ", ".join(state_name(state) for state in accepted[:10])
    more = f" and {len(accepted) - 10} more" if len(accepted) > 10 else ""
    text = (
        f"the beginning is not known: the journal begins when the driver had accepted {names}{more} already, from a "
        "reporter whose journal is lost"
    )
    return _noted(0.0, REPORTER, reporter_pb2.TRACE_KIND_GAP, text)


def requested(end: link_pb2.EndRequest, wall: float) -> rec.Noted:
    """The driver has asked the runner for an end that the runner has not recorded yet."""
    text = f"end asked for: {asker(end.cause)}{f': {end.message}' if end.message else ''}"
    return _noted(wall, DRIVER, reporter_pb2.TRACE_KIND_END, text)


def closed(why: str, wall: float) -> rec.Noted:
    """Nothing more comes; `why` empty: as it should be."""
    text = f"closed: {why}" if why else "over: the driver has forgotten the task"
    return _noted(wall, REPORTER if why else DRIVER, reporter_pb2.TRACE_KIND_CLOSED, text)


def proposed(entry: Entry) -> rec.Noted:
    """A status was decided, at its timestamp."""
    status = entry.status
    text = f"{status_name(entry)} proposed"
    if status.HasField("healthy"):
        text += ", healthy" if status.healthy else ", unhealthy"
    if status.HasField("reason"):
        text += f", {mesos_pb2.TaskStatus.Reason.Name(status.reason)}"
    if status.message:
        text += f": {status.message}"
    return _about(entry, status.timestamp, REPORTER, reporter_pb2.TRACE_KIND_PROPOSED, text)


def answered(entry: Entry, rejection: int, wall: float) -> rec.Noted:
    """The driver has taken or rejected it."""
    if not rejection:
        text = f"{status_name(entry)} accepted by the driver"
        return _about(entry, wall, DRIVER, reporter_pb2.TRACE_KIND_ACCEPTED, text)
    text = f"{status_name(entry)} rejected: {_REJECTIONS.get(rejection, f'rejection {rejection}')}"
    return _about(entry, wall, DRIVER, reporter_pb2.TRACE_KIND_REJECTED, text)


def acknowledged(entry: Entry, wall: float) -> rec.Noted:
    """The agent has it."""
    text = f"{status_name(entry)} acknowledged by the agent"
    return _about(entry, wall, AGENT, reporter_pb2.TRACE_KIND_ACKNOWLEDGED, text)


def latched(latch: link_pb2.Latch, wall: float) -> rec.Noted:
    """The driver has made the terminal status."""
    text = f"the driver itself has sent {state_name(latch.state)}: it could not wait for a proposal"
    return _noted(wall, DRIVER, reporter_pb2.TRACE_KIND_LATCHED, text)._replace(uuid=latch.uuid)


def status_name(entry: Entry) -> str:
    """`TASK_RUNNING #2`."""
    return f"{state_name(entry.status.state)} #{entry.n}"


def state_name(state: int) -> str:
    """`TASK_RUNNING`; a number that this version does not know as it stands."""
    try:
        return mesos_pb2.TaskState.Name(mesos_pb2.TaskState.ValueType(state))
    except ValueError:
        return f"state {state}"


def _phase(state: link_pb2.TaskState, wall: float) -> rec.Noted:
    text = _PHASES[state.phase]
    if state.phase in TERMINAL_PHASES and state.message:
        text += f": {state.message}"
    return _noted(wall, RUNNER, reporter_pb2.TRACE_KIND_PHASE, text, state.phase_at)


def _run_ended(end: link_pb2.RunEnd, wall: float) -> rec.Noted:
    who = f"process '{end.process}' run {end.run}"
    if end.exit.HasField("signal"):
        text = f"{who} ended by {_signal_name(end.exit.signal)}{' (core dumped)' if end.exit.core_dumped else ''}"
    elif end.exit.HasField("code"):
        text = f"{who} exited with status {end.exit.code}"
    elif end.error:
        text = f"{who} ended: {end.error}"
    else:
        text = f"{who} ended, and its exit status is not known"
    return _noted(wall, RUNNER, reporter_pb2.TRACE_KIND_RUN_ENDED, text, end.at)


def _ending(end: link_pb2.Ending, wall: float, *, first: bool) -> rec.Noted:
    detail = f": {end.message}" if end.message else ""
    if end.cause == link_pb2.END_CAUSE_PLAN:
        text = f"the plan has come to its end{detail}"
    elif first:
        text = f"end begins, because of {asker(end.cause)}{_within(end)}{detail}"
    else:
        text = f"end comes sooner, because of {asker(end.cause)}{_within(end)}{detail}"
    return _noted(wall, RUNNER, reporter_pb2.TRACE_KIND_END, text, end.at)


def _within(end: link_pb2.Ending) -> str:
    if not end.at or not math.isfinite(end.within_secs):
        return ""
    return f", SIGKILL in {end.within_secs:.3g} s at the latest" if end.within_secs > 0 else ", SIGKILL at once"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _about(entry: Entry, wall: float, source: int, kind: int, text: str) -> rec.Noted:
    note = _noted(wall, source, kind, text)
    return note._replace(n=entry.n, uuid=entry.uuid, minor=entry.is_health_update)


def _noted(wall: float, source: int, kind: int, text: str, source_at: float = 0.0) -> rec.Noted:
    text = one_line(text)
    if len(text) > MAX_TEXT:
        text = f"{text[: MAX_TEXT - 3]}..."
    return rec.Noted(_finite(wall), source, _finite(source_at), kind, text)


def _finite(at: float) -> float:
    return at if math.isfinite(at) else 0.0
