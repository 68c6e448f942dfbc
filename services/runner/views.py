"""What is shown of a task: to the driver, and to operators."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from services.runner import budgets
from services.runner.processes import ENDED, ProcessState
from trivet.link.v1 import link_pb2
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from services.runner.book import Book
    from services.runner.processes import Exit, Run
    from services.runner.records import RunRecord
    from services.runner.state import State
    from services.runner.store import Damage

# Characters of each text that is only for explaining.
_TEXT = 300


def changeable(state: State) -> tuple[object, ...]:
    """What can change in a TaskState while a task lives. Not its version, which tells nothing by itself."""
    return state.phase, state.started, state.cause, state.message


def task_state(book: Book) -> link_pb2.TaskState:
    """The runner's whole view of a task, for the driver."""
    state = book.state
    graces = budgets.kill_graces(state.spec)
    loaded, invalid = book.loaded, book.invalid
    health = None if loaded is None else loaded.health
    return link_pb2.TaskState(
        key=book.key.to_pb(),
        version=state.version,
        phase=_phase(state.phase or 0),
        started=state.started,
        gated=health is not None and health.gates,
        end_cause=cast("link_pb2.EndCause", int(state.cause or 0)),
        message=state.message,
        grace_secs=graces.clean,
        total_grace_secs=graces.total,
        rebuilt=book.head.rebuilt,
        aurora=loaded.aurora if loaded is not None else invalid is not None and invalid.aurora,
        health_checked=health is not None,
        run_ends=[_run_end(run) for run in (state.troubled if state.cause is None else state.ended)],
        endings=[
            link_pb2.Ending(
                cause=cast("link_pb2.EndCause", int(cause)), message=message[:_TEXT], at=at, within_secs=within
            )
            for cause, message, at, within in state.endings
        ],
        phase_at=state.phases[-1][1] if state.phases else 0.0,
    )


def _run_end(run: Run) -> link_pb2.RunEnd:
    return link_pb2.RunEnd(
        process=run.process, run=run.run, exit=_exit(run.exit), error=run.error[:_TEXT], at=run.ended_at
    )


def task(book: Book, *, attached: bool) -> runner_pb2.Task:
    """A task, whole, for operators."""
    state, facts = book.state, book.head.facts
    return runner_pb2.Task(
        state=task_state(book),
        name=book.name,
        user=book.user,
        ports={} if book.loaded is None else book.loaded.ports,
        sandbox=facts.host_sandbox or facts.sandbox,
        hostname=facts.hostname,
        phases=[runner_pb2.PhaseChange(phase=_phase(p), at=at) for p, at in state.phases],
        processes=[process_run(state.newest[p.name]) for p in state.spec.processes if p.name in state.newest],
        attached=attached,
        warnings=book.warnings(),
        process_count=len(state.spec.processes),
    )


def response(book: Book, *, attached: bool) -> runner_pb2.GetTaskResponse:
    """Everything that is known of a task."""
    return runner_pb2.GetTaskResponse(
        task=task(book, attached=attached),
        spec=None if book.loaded is None else book.loaded.task,
        runs=[process_run(run) for runs in book.state.runs.values() for run in runs.values()],
    )


def damaged(damage: Damage) -> runner_pb2.DamagedJournal:
    """A journal that was put aside."""
    return runner_pb2.DamagedJournal(
        path=damage.path,
        error=damage.error,
        offset=damage.offset,
        key=None if damage.key is None else damage.key.to_pb(),
    )


def process_run(run: Run) -> runner_pb2.ProcessRun:
    """One run as it is now."""
    return runner_pb2.ProcessRun(
        process=run.process,
        run=run.run,
        state=_process_state(run.state),
        pid=run.pid,
        exit=_exit(run.exit),
        error=run.error,
        waiting_at=run.waiting_at,
        forked_at=run.forked_at,
        running_at=run.running_at,
        ended_at=run.ended_at,
    )


def process_change(book: Book, record: RunRecord) -> runner_pb2.WatchTasksResponse:
    """One run as it was right after `record`, which may be older than what is known now."""
    run = process_run(book.state.runs[record.process][record.run])
    run.state = _process_state(record.state)
    if record.state not in ENDED:
        run.ClearField("exit")
        run.ClearField("error")
        run.ended_at = 0.0
        if record.state is not ProcessState.RUNNING:
            run.running_at = 0.0
            run.pid = 0
            if record.state is not ProcessState.FORKED:
                run.forked_at = 0.0
    return runner_pb2.WatchTasksResponse(process=runner_pb2.ProcessChange(key=book.key.to_pb(), run=run))


def _exit(exit_: Exit | None) -> link_pb2.Exit | None:
    if exit_ is None:
        return None
    return link_pb2.Exit(code=exit_.code, signal=exit_.signal, core_dumped=exit_.core_dumped)


# The numbers are the same on both sides; protoc's stubs know only the names.
def _phase(phase: int) -> link_pb2.TaskPhase:
    return cast("link_pb2.TaskPhase", int(phase))


def _process_state(state: ProcessState) -> runner_pb2.ProcessState:
    return cast("runner_pb2.ProcessState", int(state))
