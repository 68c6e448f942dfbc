"""The answer of `ExplainTask`: the trace of the task that is meant, and what it waits for. Pure: no clock, no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from services.reporter import explain_words as words
from services.reporter.chain import Stage
from services.reporter.mapping import TERMINAL_PHASES, TERMINAL_STATES
from trivet.link.v1 import link_pb2
from trivet.reporter.v1 import reporter_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from services.reporter import records as rec
    from services.reporter.task import ReportedTask

# Statuses under way that are listed one by one.
_MAX_LISTED = 5
_UNDER_WAY = frozenset({reporter_pb2.DELIVERY_PROPOSED, reporter_pb2.DELIVERY_ACCEPTED})


class UnknownTask(Exception):
    """There is no such task; the text says what to do."""


class AmbiguousTask(Exception):
    """Several executors have a task of that id; the text names them."""


def choose(
    tasks: Iterable[ReportedTask],
    request: reporter_pb2.ExplainTaskRequest,
    attached: Callable[[ReportedTask], bool],
) -> ReportedTask:
    """The newest launch of the task that is meant: whose driver is attached goes first, next what is not over.

    Args:
        tasks: All, finished ones first, oldest first.
        request: Which one.
        attached: Whether a task's driver has a live stream.

    Raises:
        UnknownTask: There is none.
        AmbiguousTask: Several executors have one that is not over, and several of these are attached, or none is.
    """
    found = [
        task
        for task in tasks
        if task.key.task_id == request.task_id
        and request.executor_id in ("", task.key.executor.executor_id)
        and request.framework_id in ("", task.key.executor.framework_id)
    ]
    if not found:
        raise UnknownTask(
            f"task_id: no task {request.task_id!r}: it was never launched here, its executor has not connected yet, or "
            "it ended so long ago that it was forgotten; ListTaskStatuses names all that are known"
        )
    found = [task for task in found if attached(task)] or found
    live = [task for task in found if not over(task)]
    executors = {(task.key.executor.executor_id, task.key.executor.framework_id) for task in live}
    if len(executors) > 1:
        names = ", ".join(f"{executor!r} of framework {framework!r}" for executor, framework in sorted(executors))
        raise AmbiguousTask(f"task_id: several executors have a task {request.task_id!r}: {names}: say which one")
    return max(live, key=lambda task: task.key.launch) if live else found[-1]


def over(task: ReportedTask) -> bool:
    """Nothing is waited for: the agent has the terminal status. The driver need not have forgotten the task."""
    return (
        task.closed is not None
        or (task.latch is not None and task.latch.acknowledged)
        or any(
            entry.delivery == reporter_pb2.DELIVERY_ACKNOWLEDGED and entry.status.state in TERMINAL_STATES
            for entry in reversed(task.entries)
        )
    )


def explained(task: ReportedTask, *, attached: bool, now: float, wall: float) -> reporter_pb2.ExplainTaskResponse:
    """All that is known of how the task came to its status.

    Args:
        task: The task.
        attached: Its driver has a live stream.
        now: CLOCK_BOOTTIME, seconds.
        wall: Wall clock, seconds.
    """
    notes = list(task.trace.notes)
    if task.opened.accepted:
        notes.insert(0, words.unknown_beginning(task.opened.accepted))
    return reporter_pb2.ExplainTaskResponse(
        key=task.key_pb,
        trace=map(_event, notes),
        dropped=task.trace.dropped,
        waiting=_waits(task, attached=attached, now=now),
        over=over(task),
        attached=attached,
        now=wall,
    )


def _event(note: rec.Noted) -> reporter_pb2.TraceEvent:
    # Numbers that this version does not know are passed on; protoc's stubs know only the names.
    return reporter_pb2.TraceEvent(
        at=note.at,
        source_at=note.source_at,
        source=cast("reporter_pb2.Source", note.source),
        kind=cast("reporter_pb2.TraceKind", note.kind),
        text=note.text,
        n=note.n,
        uuid=note.uuid,
    )


def _waits(task: ReportedTask, *, attached: bool, now: float) -> Iterator[reporter_pb2.Waiting]:
    if over(task):
        return
    if not attached:
        yield _waiting("the driver is not attached: nothing is heard or told until it is", task, _LINK)
    if task.latch is None:
        yield from _task_waits(task, attached=attached)
        if attached and task.chain.next_step(now) is not None:
            yield _waiting("a status is due and held back: the journal cannot be written (is the disk full?)")
    yield from _delivery_waits(task)


_LINK = (reporter_pb2.TRACE_KIND_DETACHED, reporter_pb2.TRACE_KIND_ATTACHED)


def _task_waits(task: ReportedTask, *, attached: bool) -> Iterator[reporter_pb2.Waiting]:
    chain = task.chain
    state = chain.state
    if state is None:
        yield _waiting("the runner has said nothing of the task yet" if attached else "the runner's state is not known")
    elif state.phase in TERMINAL_PHASES:
        return
    elif state.end_cause:
        where = link_pb2.TaskPhase.Name(state.phase).removeprefix("TASK_PHASE_")
        why = "its plan is over" if state.end_cause == link_pb2.END_CAUSE_PLAN else words.asker(state.end_cause)
        begun = state.endings[0].at if state.endings else 0.0
        yield reporter_pb2.Waiting(text=f"the task is ending ({why}), phase {where}: processes are left", since=begun)
    elif chain.ending:
        yield _waiting("its end was asked for, and the runner has not recorded it", task, (_END,))
    elif not state.started:
        yield _waiting("no process of the task has been started yet", task, (reporter_pb2.TRACE_KIND_PHASE,))
    elif chain.stage < Stage.RUNNING and state.gated:
        yield _waiting(f"RUNNING waits for health: {_gate(chain.verdict)}", task, (reporter_pb2.TRACE_KIND_STARTED,))


_END = reporter_pb2.TRACE_KIND_END


def _gate(verdict: link_pb2.Verdict | None) -> str:
    if verdict is None:
        return "it has said nothing yet"
    newest = f"; newest result: {verdict.message}" if verdict.message else "; there is no result yet"
    return f"successes in a row {verdict.consecutive_successes}, failures {verdict.consecutive_failures}{newest}"


def _delivery_waits(task: ReportedTask) -> Iterator[reporter_pb2.Waiting]:
    latched = task.latch is not None
    waiting = [
        entry
        for entry in task.entries
        if entry.delivery in _UNDER_WAY and not (latched and entry.delivery == reporter_pb2.DELIVERY_PROPOSED)
    ]
    for entry in waiting[:_MAX_LISTED]:
        name = words.status_name(entry)
        if entry.delivery == reporter_pb2.DELIVERY_PROPOSED:
            yield _waiting(
                f"{name}: the driver has not answered the proposal", task, (reporter_pb2.TRACE_KIND_PROPOSED,), entry.n
            )
        else:
            yield _waiting(
                f"{name}: the agent has not acknowledged it", task, (reporter_pb2.TRACE_KIND_ACCEPTED,), entry.n
            )
    if len(waiting) > _MAX_LISTED:
        yield _waiting(f"{len(waiting) - _MAX_LISTED} more statuses are under way")


def _waiting(
    text: str, task: ReportedTask | None = None, kinds: tuple[int, ...] = (), n: int = 0
) -> reporter_pb2.Waiting:
    note = None if task is None else task.trace.newest(*kinds, n=n)
    return reporter_pb2.Waiting(text=text, since=0.0 if note is None else note.source_at or note.at)
