"""The task machine: what has happened -> what is recorded and what is to be done (Thermos: task state machine).

    ACTIVE      regular processes run by their plan
    CLEANING    lifecycle endpoints, SIGTERM to all, SIGKILL at the deadline, until nothing is left
    FINALIZING  final processes run by their plan, within what is left of the budget
    terminal    the verdict; only when nothing of the task is left

`decide` applies each record to the state as it makes it, so a replay of the records gives the same state. It reads no
clock, touches no file and keeps nothing but the state; the caller writes the records before it carries out the actions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from services.runner import budgets, lifecycle, messages, silence
from services.runner.budgets import Budget, Request
from services.runner.events import (
    Decision,
    Event,
    Gone,
    HandsSeen,
    LifecycleDone,
    Overruled,
    Resumed,
    StartRun,
    Terminate,
    Tick,
    verdict_of,
)
from services.runner.intake import Recorder, unconfirmed
from services.runner.processes import Change, ProcessState
from services.runner.records import Cause, EndRecord, Moment, Phase, PhaseRecord, RunRecord
from services.runner.state import State, View

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from services.runner.plan import Plan

# Seconds after the order to end everything until a start that the hands never confirmed counts as never made.
ANSWER_WAIT = 1.0


def decide(state: State, events: Iterable[Event], now: Moment) -> Decision:
    """Takes in what has happened, all of it at once, and then draws the conclusions.

    An end request among the events wins over an end of the plan that follows from the others: who asks for the end of a
    task, and sees it end, has ended it.
    """
    step = _Step(state, now)
    if state.phase is None:
        step.emit(PhaseRecord(now, Phase.ACTIVE))
    for event in events:
        step.take(event)
    step.advance()
    return step.decision


def detach(state: State) -> None:
    """The connection is gone: nothing is known of the hands until the next Hello."""
    state.view = View(may_start=state.view.may_start)


def next_wakeup(state: State) -> float | None:
    """When a `Tick` would change something (CLOCK_BOOTTIME); None: only an event can."""
    times: list[float | None] = []
    if state.phase is Phase.ACTIVE and state.cause is None:
        if state.spec.max_completion is not None:
            times.append(state.launched_at + state.spec.max_completion)
        if state.view.connected and state.view.may_start:
            times.append(state.regular.next_wakeup())
    elif state.phase is Phase.FINALIZING and state.view.connected and state.view.told != 0.0:
        times.append(state.end_at)
        if state.view.may_start and state.view.told is None:
            times.append(state.final.next_wakeup())
    times.append(lifecycle.next_wakeup(state))
    if state.view.connected and not state.over:
        times.append(silence.next_wakeup(state.view))
    if _waits_for_answer(state):
        times.append(_answer_due(state.view))
    return min((time for time in times if time is not None), default=None)


def _waits_for_answer(state: State) -> bool:
    """A Terminate was told, nothing is alive, and some starts may never have reached the hands."""
    view = state.view
    return view.connected and view.told is not None and view.alive == 0 and not state.over and bool(unconfirmed(state))


def _answer_due(view: View) -> float:
    """When silence means that there is nothing: whatever was started is dead by `told`."""
    return max(view.told or 0.0, view.told_at) + ANSWER_WAIT


class _Step(Recorder):
    """One call of `decide`."""

    def take(self, event: Event) -> None:
        self._TAKERS[type(event)](self, event)

    def advance(self) -> None:
        """Draws conclusions until nothing follows from the state any more."""
        while self._PHASES.get(self.state.phase or Phase.ACTIVE, _Step._over)(self):
            pass

    # What is said

    def _take_request(self, request: Request) -> None:
        state = self.state
        if state.over:
            return
        external = state.cause is not None and state.cause is not Cause.PLAN
        # Mesos: a repeated kill counts from the first one, so it can only shorten.
        wanted = budgets.requested(state.spec, request, state.ended_at if external else self.now.boot)
        if state.cause is not None:
            current = Budget(state.clean_until, state.end_at)
            wanted = budgets.earliest(current, wanted)
            if wanted == current:
                return
        verdict = verdict_of(request.cause, state.spec)
        message = messages.asked(request.cause, request.message)
        self.emit(EndRecord(self.now, request.cause, verdict, *wanted, request.seq, message))

    def _take_tick(self, event: Tick) -> None:
        if event.late:
            silence.begin_again(self.state.view, self.now.boot)

    def _take_resumed(self, event: Resumed) -> None:
        self.state.view.may_start = event.may_start

    def _take_gone(self, event: Gone) -> None:
        self.close(ProcessState.LOST, event.message)
        if not self.state.over:
            self.emit(PhaseRecord(self.now, Phase.LOST, messages.one_line(event.message)))

    def _take_overruled(self, event: Overruled) -> None:
        if not self.state.over:
            self.close(ProcessState.LOST, "the task was ended without the runner")
            self.emit(PhaseRecord(self.now, event.phase, messages.one_line(event.message)))

    # What follows: each returns whether the phase has changed

    def _active(self) -> bool:
        state = self.state
        if state.cause is None:
            limit = state.spec.max_completion
            if limit is not None and self.now.boot >= state.launched_at + limit:
                self._take_request(Request(Cause.COMPLETION_TIME))
        if state.cause is None:
            if state.view.connected:
                silence.give_up(self)
            self._queue(state.regular)
            self._natural_end()
        if state.cause is not None:
            self.emit(PhaseRecord(self.now, Phase.CLEANING))
            return True
        self._start(state.regular)
        return False

    def _natural_end(self) -> None:
        state, plan = self.state, self.state.regular
        if 0 < state.spec.max_failures <= plan.failed_count:
            verdict, message = Phase.FAILED, messages.failed(state)
        elif plan.deadlocked:
            verdict, message = Phase.FAILED, messages.deadlocked(state)
        elif plan.complete:
            verdict, message = Phase.SUCCESS, messages.succeeded(state)
        else:
            return
        budget = budgets.natural(state.spec, self.now.boot)
        self.emit(EndRecord(self.now, Cause.PLAN, verdict, *budget, 0, message))

    def _cleaning(self) -> bool:
        state = self.state
        if not state.view.connected:
            return False
        if any(name in state.final for name in state.newest):
            # Only state that was rebuilt from the hands comes here: cleaning was over before the journal was lost.
            return self._finalize()
        silence.give_up(self)
        self._close_unstarted()
        if not state.quiet:
            if not lifecycle.ask(self):
                self._terminate(state.clean_until)
            return False
        # A task that was ended before anything ran has nothing to finalize.
        if state.spec.has_final and state.end_at > self.now.boot and (state.forked or state.cause is Cause.PLAN):
            return self._finalize()
        return self._finish()

    def _finalize(self) -> bool:
        self.emit(PhaseRecord(self.now, Phase.FINALIZING))
        # The deadline that was told was that of the regular processes, and they are gone.
        self.state.view.told = None
        return True

    def _finalizing(self) -> bool:
        state = self.state
        if not state.view.connected:
            return False
        spent = self.now.boot >= state.end_at
        silence.give_up(self)
        if not spent and state.view.told is None:
            self._queue(state.final)
            if not (state.final.complete or state.final.deadlocked):
                self._start(state.final)
                return False
        self._close_unstarted()
        if state.quiet:
            return self._finish()
        self._terminate(0.0 if spent else state.end_at)
        return False

    def _finish(self) -> bool:
        assert self.state.verdict is not None, "cleaning begins with a recorded end"  # noqa: S101 - an invariant
        self.emit(PhaseRecord(self.now, self.state.verdict))
        return True

    def _over(self) -> bool:
        view = self.state.view
        if view.connected and view.alive > 0:
            self._terminate(0.0)
        return False

    def _queue(self, plan: Plan) -> None:
        for process in plan.runnable:
            run = self.state.next_run(process)
            self.emit(RunRecord(self.now, process, run, ProcessState.WAITING))

    def _start(self, plan: Plan) -> None:
        """Starts what may start, and starts again what the hands have not heard of."""
        state = self.state
        if not (state.view.connected and state.view.may_start):
            return
        while (process := plan.next_ready(self.now.boot)) is not None:
            run = state.newest[process]
            self.emit(RunRecord(self.now, process, run.run, ProcessState.FORKED))
        for run in unconfirmed(state):
            silence.watch(state.view, run, self.now.boot)
            self.decision.actions.append(StartRun(run.process, run.run))

    def _terminate(self, kill_at: float) -> None:
        view = self.state.view
        if view.told is None or kill_at < view.told:
            view.told, view.told_at = kill_at, self.now.boot
            view.answered = False
            self.decision.actions.append(Terminate(kill_at))

    def _close_unstarted(self) -> None:
        """Closes runs whose start never reached the hands, once they have answered a Terminate and have nothing."""
        if not _waits_for_answer(self.state):
            return
        if self.state.view.answered or self.now.boot >= _answer_due(self.state.view):
            for run in unconfirmed(self.state):
                self.record(run, Change(ProcessState.KILLED, None, "never started: the task was being ended"))

    # Made once, as each event of each task makes a step.
    _TAKERS: ClassVar[dict[type[Event], Callable[..., None]]] = {
        HandsSeen: Recorder.take_hands,
        Request: _take_request,
        Tick: _take_tick,
        LifecycleDone: lifecycle.take,
        Resumed: _take_resumed,
        Gone: _take_gone,
        Overruled: _take_overruled,
    }
    _PHASES: ClassVar[dict[Phase, Callable[[_Step], bool]]] = {
        Phase.ACTIVE: _active,
        Phase.CLEANING: _cleaning,
        Phase.FINALIZING: _finalizing,
    }
