"""Starts that nobody confirms (Thermos: FORKED without RUNNING for 60 s is LOST).

The hands report exec within milliseconds. A run that they neither report nor refuse for `START_WAIT` on a connection
that stands is given up: LOST, so no failure, and it runs again. Whatever there is of it is stopped first, so that the
work is not done twice.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from services.runner.events import StopRun
from services.runner.processes import Change, ProcessState

if TYPE_CHECKING:
    from services.runner.intake import Recorder
    from services.runner.processes import Run
    from services.runner.state import View

# Seconds (Thermos: LOST_TIMEOUT).
START_WAIT = 60.0


def watch(view: View, run: Run, since: float) -> None:
    """The run was told to the hands, or by them, and its exec is not confirmed yet; time counts from `since`."""
    due = since + START_WAIT
    view.listed[run.process, run.run] = due
    heapq.heappush(view.unheard, (due, run.process, run.run))


def next_wakeup(view: View) -> float | None:
    """When the next start is given up; None: all are confirmed."""
    while view.unheard:
        due, process, run = view.unheard[0]
        if view.listed.get((process, run)) == due:
            return due
        heapq.heappop(view.unheard)
    return None


def confirmed(view: View, process: str, run: int) -> None:
    """The hands have reported exec: the run may take as long as it likes."""
    view.listed[process, run] = 0.0


def begin_again(view: View, now: float) -> None:
    """Counts all waiting from `now`: this process was not there to hear of them."""
    waiting = [(process, run) for due, process, run in view.unheard if view.listed.get((process, run)) == due]
    view.unheard = [(now + START_WAIT, *key) for key in sorted(waiting)]
    view.listed.update(dict.fromkeys(waiting, now + START_WAIT))


def give_up(recorder: Recorder) -> None:
    """Records as LOST what was not confirmed in time."""
    state, now = recorder.state, recorder.now.boot
    while (due := next_wakeup(state.view)) is not None and due <= now:
        _, process, number = heapq.heappop(state.view.unheard)
        run = state.open.get((process, number))
        if run is not None and run.state is ProcessState.FORKED:
            error = f"the executor has not confirmed the start within {START_WAIT:g} s"
            recorder.record(run, Change(ProcessState.LOST, None, error))
            recorder.decision.actions.append(StopRun(process, number))
            if state.view.told is None:
                # There may be a process; what the hands say to the order corrects this.
                state.view.alive = max(state.view.alive, 1)
