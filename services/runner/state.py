"""The state of a task, and how a record changes it. `apply` is the only writer, live as in a replay.

Version: a task's version is the CLOCK_BOOTTIME of its newest record in microseconds, or one more than the version
before if that is higher. So it grows with every record and across restarts, records that could not be written included.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from services.runner.plan import Counts, Plan
from services.runner.processes import ENDED, OPEN, Exit, ProcessState, Run, check, check_next
from services.runner.records import (
    TERMINAL,
    Cause,
    EndRecord,
    LifecycleRecord,
    Moment,
    Phase,
    PhaseRecord,
    Record,
    RunRecord,
    SnapshotRecord,
)

if TYPE_CHECKING:
    from services.runner.spec import TaskSpec

# Newest ended runs of a task, and end requests, that the driver and the reporter are told of.
KEEP_ENDS = 8

# Ended runs of one process that are kept for showing; a daemon may have any number.
KEEP_RUNS = 200

PHASE_CHANGES: dict[Phase, frozenset[Phase | None]] = {
    Phase.ACTIVE: frozenset({None}),
    Phase.CLEANING: frozenset({Phase.ACTIVE}),
    Phase.FINALIZING: frozenset({Phase.CLEANING}),
    Phase.SUCCESS: frozenset({Phase.CLEANING, Phase.FINALIZING}),
    # From ACTIVE: the task was refused, or a status that the driver has sent on its own overrules the plan.
    Phase.FAILED: frozenset({Phase.ACTIVE, Phase.CLEANING, Phase.FINALIZING}),
    Phase.KILLED: frozenset({Phase.ACTIVE, Phase.CLEANING, Phase.FINALIZING}),
    Phase.LOST: frozenset({Phase.ACTIVE, Phase.CLEANING, Phase.FINALIZING}),
}


class IllegalPhase(Exception):
    """A record says what cannot be: the journal is not one of this task."""


@dataclass(slots=True)
class View:
    """What is known of the hands right now. Never recorded: each Hello brings it anew."""

    connected: bool = False
    # Processes of the task that exist.
    alive: int = 0
    # Runs that the hands have confirmed or that were sent to them on this connection, (process, run), with the time by
    # which exec has to be confirmed (CLOCK_BOOTTIME).
    listed: dict[tuple[str, int], float] = field(default_factory=dict)
    # The same times as a heap of (time, process, run); what `listed` does not have so any more is void.
    unheard: list[tuple[float, str, int]] = field(default_factory=list)
    # The hands have spoken since the Hello.
    answered: bool = False
    # `kill_at` that was told on this connection, and when.
    told: float | None = None
    told_at: float = 0.0
    # Lifecycle step that was ordered on this connection; -1: none. `fresh`: and never on an earlier one.
    asked: int = -1
    fresh: bool = False
    # False while the journal takes no records: nothing new may be started.
    may_start: bool = True


def _newest_ends() -> deque[Run]:
    return deque(maxlen=KEEP_ENDS)


@dataclass(slots=True)
class State:
    """One task. `view` is not part of what a replay brings back."""

    spec: TaskSpec
    regular: Plan
    final: Plan
    phase: Phase | None = None
    # Phases in the order in which they were entered, with the wall clock.
    phases: list[tuple[Phase, float]] = field(default_factory=list)
    launched_at: float = 0.0
    cause: Cause | None = None
    ended_at: float = 0.0
    verdict: Phase | None = None
    message: str = ""
    clean_until: float = 0.0
    end_at: float = 0.0
    # Newest lifecycle step that was begun, -1: none; until when it lasts (CLOCK_BOOTTIME); the endpoint has answered.
    step: int = -1
    step_until: float = 0.0
    step_answered: bool = False
    started: bool = False
    forked: bool = False
    version: int = 0
    # Runs by process and number; ended ones beyond KEEP_RUNS a process are dropped.
    runs: dict[str, dict[int, Run]] = field(default_factory=dict)
    newest: dict[str, Run] = field(default_factory=dict)
    # Newest of all that have ended, oldest first.
    ended: deque[Run] = field(default_factory=_newest_ends)
    # Newest of those that did not succeed.
    troubled: deque[Run] = field(default_factory=_newest_ends)
    # Recorded end requests as (cause, message, wall clock, seconds until SIGKILL): the first and the newest ones.
    endings: list[tuple[int, str, float, float]] = field(default_factory=list)
    open: dict[tuple[str, int], Run] = field(default_factory=dict)
    view: View = field(default_factory=View)

    @classmethod
    def new(cls, spec: TaskSpec) -> State:
        """A task of which nothing is recorded yet."""
        regular = [process for process in spec.processes if not process.final]
        final = [process for process in spec.processes if process.final]
        return cls(
            spec=spec,
            regular=Plan(regular, spec.successors, max_concurrency=spec.max_concurrency, run_limit=spec.run_limit),
            final=Plan(final, spec.successors, max_concurrency=spec.max_concurrency, run_limit=spec.run_limit),
            runs={process.name: {} for process in spec.processes},
        )

    @property
    def over(self) -> bool:
        """The phase is a terminal one."""
        return self.phase in TERMINAL

    @property
    def quiet(self) -> bool:
        """Nothing of the task is left, as far as the hands and our own starts tell."""
        return self.view.alive == 0 and not self.open

    def plan_of(self, process: str) -> Plan:
        """The plan that a process belongs to."""
        return self.regular if process in self.regular else self.final

    def next_run(self, process: str) -> int:
        """Number of the next run of a process."""
        newest = self.newest.get(process)
        return 0 if newest is None else newest.run + 1


def apply(state: State, record: Record) -> None:
    """Changes `state` by one record. Does nothing else, so that a replay has no effects.

    Raises:
        IllegalTransition: The record cannot follow the ones before (process).
        IllegalPhase: The same for phases.
        KeyError: Names a process that the task does not have.
    """
    if isinstance(record, RunRecord):
        _apply_run(state, record)
    elif isinstance(record, EndRecord):
        _apply_end(state, record)
    elif isinstance(record, PhaseRecord):
        _apply_phase(state, record)
    elif isinstance(record, LifecycleRecord):
        state.step, state.step_until, state.step_answered = record.step, record.until, record.answered
    else:
        _restore(state, record.state)
        return
    state.version = max(state.version + 1, int(record.at.boot * 1e6))


def _apply_run(state: State, record: RunRecord) -> None:
    runs = state.runs[record.process]
    run = runs.get(record.run)
    check(None if run is None else run.state, record.state)
    plan = state.plan_of(record.process)
    wall = record.at.wall
    if run is None:
        check_next(state.newest.get(record.process), record.run, found=record.found)
        run = runs[record.run] = state.newest[record.process] = Run(record.process, record.run, waiting_at=wall)
        if len(runs) > KEEP_RUNS:
            del runs[next(iter(runs))]
        plan.waiting(record.process)
        return
    run.state = record.state
    if record.pid:
        run.pid, run.start_ticks = record.pid, record.ticks
    if record.error:
        run.error = record.error
    key = (record.process, record.run)
    if record.state in OPEN:
        state.open[key] = run
        state.forked = True
        if record.state is ProcessState.FORKED:
            run.forked_at = wall
            run.forked_boot = record.at.boot
            plan.forked(record.process)
        else:
            run.running_at = wall
            state.started = True
        return
    del state.open[key]
    run.ended_at = wall
    if record.code is not None or record.signal is not None:
        run.exit = Exit(record.code, record.signal, record.core)
    plan.ended(record.process, ENDED[record.state], record.at.boot)
    _remember(state, run)


def _remember(state: State, run: Run) -> None:
    state.ended.append(run)
    if run.state is not ProcessState.SUCCESS:
        state.troubled.append(run)


def _apply_end(state: State, record: EndRecord) -> None:
    if state.cause is None:
        state.cause = record.cause
        state.verdict = record.verdict
        state.message = record.message
        state.ended_at = record.at.boot
    state.clean_until = record.clean_until
    state.end_at = record.end_at
    if len(state.endings) == KEEP_ENDS:
        # The first one is the cause.
        del state.endings[1]
    state.endings.append((record.cause, record.message, record.at.wall, max(record.end_at - record.at.boot, 0.0)))


def _apply_phase(state: State, record: PhaseRecord) -> None:
    if state.phase not in PHASE_CHANGES[record.phase]:
        before = "nothing" if state.phase is None else state.phase.name
        raise IllegalPhase(f"{before} -> {record.phase.name}")
    if record.phase is Phase.CLEANING and state.cause is None:
        raise IllegalPhase("CLEANING without an end")
    if state.phase is None:
        state.launched_at = record.at.boot
    state.phase = record.phase
    state.phases.append((record.phase, record.at.wall))
    if record.message:
        state.message = record.message


_PLAIN = ("launched_at", "ended_at", "message", "clean_until", "end_at", "started", "forked", "version")
# Not in the snapshots of older versions.
_PLAIN_LATER = ("step", "step_until", "step_answered", "endings")
_RUN_PLAIN = ("run", "pid", "start_ticks", "error", "waiting_at", "forked_at", "running_at", "ended_at", "forked_boot")


def snapshot(state: State, now: Moment) -> SnapshotRecord:
    """Everything but the view, as one record: applying it to a new state gives this one."""
    return SnapshotRecord(
        now,
        {
            "phases": state.phases,
            "cause": state.cause,
            "verdict": state.verdict,
            "plans": [state.regular.counts(), state.final.counts()],
            "runs": {
                name: [
                    {"state": run.state, "exit": run.exit, **{field: getattr(run, field) for field in _RUN_PLAIN}}
                    for run in runs.values()
                ]
                for name, runs in state.runs.items()
            },
            **{name: getattr(state, name) for name in (*_PLAIN, *_PLAIN_LATER)},
        },
    )


def _restore(state: State, saved: dict[str, Any]) -> None:
    for name in _PLAIN:
        setattr(state, name, saved[name])
    for name in _PLAIN_LATER:
        setattr(state, name, saved.get(name, getattr(state, name)))
    state.endings = [(cause, message, wall, within) for cause, message, wall, within in state.endings]
    state.phases = [(Phase(phase), at) for phase, at in saved["phases"]]
    state.phase = state.phases[-1][0] if state.phases else None
    state.cause = None if saved["cause"] is None else Cause(saved["cause"])
    state.verdict = None if saved["verdict"] is None else Phase(saved["verdict"])
    for plan, counts in zip((state.regular, state.final), saved["plans"], strict=True):
        plan.restore({name: Counts(*values) for name, values in counts.items()})
    for name, runs in saved["runs"].items():
        for values in runs:
            fields = dict(values)
            ended = fields.pop("exit")
            run = Run(name, state=ProcessState(fields.pop("state")), exit=ended and Exit(*ended), **fields)
            state.runs[name][run.run] = run
            state.newest[name] = run
            if run.state in OPEN:
                state.open[(name, run.run)] = run
    over = (run for runs in state.runs.values() for run in runs.values() if run.state in ENDED)
    for run in sorted(over, key=lambda run: run.ended_at):
        _remember(state, run)
