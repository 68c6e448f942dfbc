"""Asking a task to end before it is told to: POST to its lifecycle endpoints (Aurora: HttpLifecycleConfig).

Only where the end is requested: of a plan that has come to its own end nothing is left to ask. Each endpoint has its
wait, which ends early when nothing of the task is left; when nobody answers there is nothing to wait for. All of it is
part of the budget: SIGKILL comes no later for it. The waits take half of the budget at most, each its share of that, so
that SIGTERM has its grace, too, however short the budget is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.common.task.lifecycle import SHARE
from services.runner.events import Lifecycle
from services.runner.records import Cause, LifecycleRecord, Phase

if TYPE_CHECKING:
    from services.runner.events import LifecycleDone
    from services.runner.intake import Recorder
    from services.runner.state import State

# Seconds that a request has at least to get out, even if nobody waits for what it does.
MIN_REQUEST = 1.0


def ask(recorder: Recorder) -> bool:
    """Orders what is due; False: all has been asked, SIGTERM is next."""
    state, now = recorder.state, recorder.now.boot
    view = state.view
    if state.cause is Cause.PLAN or view.told is not None:
        return False
    while now >= _until(state):
        step = state.step + 1
        left = _asking_until(state) - now
        if step >= len(state.spec.lifecycle) or left <= 0:
            return False
        waits = state.spec.lifecycle[step:]
        until = now + waits[0] * min(1.0, left / max(sum(waits), left))
        recorder.emit(LifecycleRecord(recorder.now, step, until))
        view.fresh = True
        _order(recorder)
    if view.asked != state.step and not state.step_answered:
        _order(recorder)
    return True


def take(recorder: Recorder, event: LifecycleDone) -> None:
    """The endpoint has answered, or nobody did."""
    state, now = recorder.state, recorder.now
    waits = state.phase is Phase.CLEANING and now.boot < _until(state)
    if not waits or event.step != state.step or state.step_answered:
        return
    if event.answered:
        recorder.emit(LifecycleRecord(now, state.step, state.step_until, answered=True, detail=event.detail))
    elif state.view.fresh:
        # Asked for the second time, on a new connection, nobody may answer because the task obeys already.
        recorder.emit(LifecycleRecord(now, state.step, now.boot, detail=event.detail))


def next_wakeup(state: State) -> float | None:
    """When the wait for the endpoint that was asked is over; None: none was, or SIGTERM is out."""
    if state.phase is Phase.CLEANING and state.view.connected and state.view.told is None and state.step >= 0:
        return _until(state)
    return None


def _until(state: State) -> float:
    """End of the current step; the past when none was begun."""
    return min(state.step_until, _asking_until(state)) if state.step >= 0 else float("-inf")


def _asking_until(state: State) -> float:
    """When SIGTERM has to be out, whatever the waits are."""
    return state.ended_at + SHARE * (state.clean_until - state.ended_at)


def _order(recorder: Recorder) -> None:
    state = recorder.state
    state.view.asked = state.step
    until = min(max(_until(state), recorder.now.boot + MIN_REQUEST), state.clean_until)
    recorder.decision.actions.append(Lifecycle(state.step, until))
