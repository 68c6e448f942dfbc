"""Taking in what the hands say: from their whole view to records of single transitions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.runner import silence
from services.runner.events import Decision, StopRun
from services.runner.processes import ENDED, LIVING, Change, HandsRun, ProcessState, Run, changes
from services.runner.records import Moment, Record, RunRecord
from services.runner.state import State, View, apply

if TYPE_CHECKING:
    from services.runner.events import HandsSeen


def unconfirmed(state: State) -> list[Run]:
    """Runs that are recorded as forked and of which the hands have not heard on this connection."""
    listed = state.view.listed
    if len(listed) == len(state.open):
        # Only open runs are listed: all are. Keeps a task with many processes linear.
        return []
    return [run for key, run in state.open.items() if key not in listed]


class Recorder:
    """Collects one decision; a record is applied to the state as soon as it is made."""

    def __init__(self, state: State, now: Moment) -> None:
        self.state = state
        self.now = now
        self.decision = Decision()

    def emit(self, record: Record) -> None:
        """Makes a record."""
        apply(self.state, record)
        self.decision.records.append(record)

    def take_hands(self, event: HandsSeen) -> None:
        """The hands' view, whole in a Hello, else the runs that have changed."""
        state, view = self.state, self.state.view
        if event.hello:
            view = state.view = View(connected=True, may_start=view.may_start)
        view.answered = not event.hello
        view.alive = event.alive
        if state.over:
            return
        for seen in sorted(event.runs, key=lambda run: run.run) if event.hello else event.runs:
            self._take_run(seen)
        if event.hello:
            for run in unconfirmed(state):
                if run.state is ProcessState.RUNNING:
                    self.record(run, Change(ProcessState.LOST, None, "the executor has no record of this run"))

    def _take_run(self, seen: HandsRun) -> None:
        runs = self.state.runs.get(seen.process)
        if runs is None:
            return
        run = runs.get(seen.run)
        if run is None:
            newest = self.state.newest.get(seen.process)
            if newest is not None:
                if seen.run <= newest.run:
                    return
                self._supersede(newest)
        for change in changes(None if run is None else run.state, seen):
            self.record(seen, change, seen)
        now_open = self.state.open.get((seen.process, seen.run))
        if now_open is None:
            if run is not None and run.state in ENDED and seen.state in LIVING:
                # Given up, and alive after all: its successor may do the same work.
                self.decision.actions.append(StopRun(seen.process, seen.run))
        elif now_open.state is ProcessState.FORKED:
            silence.watch(self.state.view, now_open, now_open.forked_boot or self.now.boot)
        else:
            silence.confirmed(self.state.view, seen.process, seen.run)

    def _supersede(self, run: Run) -> None:
        """The hands know a newer run than our newest: ours is over, and nobody knows how."""
        if run.state is ProcessState.WAITING:
            self.record(run, Change(ProcessState.FORKED))
        if run.state in (ProcessState.FORKED, ProcessState.RUNNING):
            self.record(run, Change(ProcessState.LOST, None, "a newer run was found"))
            self.decision.actions.append(StopRun(run.process, run.run))

    def record(self, run: Run | HandsRun, change: Change, seen: HandsRun | None = None) -> None:
        """Makes the record of one transition."""
        wall = self.now.wall
        pid = ticks = 0
        if seen is not None:
            if change.state is ProcessState.RUNNING:
                pid, ticks = seen.pid, seen.start_ticks
            # What is told late was no later for that: a run does not begin after its end.
            known = seen.exited_at if change.state >= ProcessState.SUCCESS else seen.forked_at
            wall = known or wall
        exit_ = change.exit
        self.emit(
            RunRecord(
                at=Moment(self.now.boot, wall),
                process=run.process,
                run=run.run,
                state=change.state,
                pid=pid,
                ticks=ticks,
                code=exit_.code if exit_ else None,
                signal=exit_.signal if exit_ else None,
                core=bool(exit_ and exit_.core_dumped),
                error=change.error,
                found=change.state is ProcessState.WAITING and run.run > self.state.next_run(run.process),
            )
        )
        if change.state >= ProcessState.SUCCESS:
            self.state.view.listed.pop((run.process, run.run), None)

    def close(self, ended: ProcessState, error: str) -> None:
        """Ends all open runs."""
        for run in list(self.state.open.values()):
            self.record(run, Change(ended, None, error))
