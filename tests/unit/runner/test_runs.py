"""States of one run: what the table allows, and what the hands' news become."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runner.events import HandsSeen
from services.runner.processes import (
    ENDED,
    TRANSITIONS,
    Exit,
    HandsRun,
    HandsState,
    IllegalTransition,
    ProcessState,
    Run,
    changes,
    check,
    check_next,
    exit_change,
)
from tests.unit.runner.world import WALL, A, World, spec

S = ProcessState
ALLOWED = {
    (None, S.WAITING),
    (S.WAITING, S.FORKED),
    (S.FORKED, S.RUNNING),
    (S.RUNNING, S.SUCCESS),
    (S.FORKED, S.FAILED),
    (S.RUNNING, S.FAILED),
    (S.FORKED, S.KILLED),
    (S.RUNNING, S.KILLED),
    (S.FORKED, S.LOST),
    (S.RUNNING, S.LOST),
}


@pytest.mark.parametrize(("before", "after"), list(itertools.product([None, *S], S)))
def test_only_the_transitions_of_the_table_are_allowed(before: S | None, after: S) -> None:
    if (before, after) in ALLOWED:
        check(before, after)
    else:
        with pytest.raises(IllegalTransition):
            check(before, after)


@pytest.mark.parametrize(
    ("exit_", "state"),
    [
        (Exit(code=0), S.SUCCESS),
        (Exit(code=1), S.FAILED),
        (Exit(code=255), S.FAILED),
        (Exit(signal=9), S.KILLED),
        (Exit(code=0, signal=15), S.KILLED),
        (Exit(), S.LOST),
        (None, S.LOST),
    ],
)
def test_what_an_exit_becomes(exit_: Exit | None, state: S) -> None:
    change = exit_change(exit_, "")
    assert change.state is state
    assert bool(change.error) == (state is S.LOST)


def test_steps_that_were_not_told_are_recorded_all_the_same() -> None:
    seen = HandsRun("a", 0, HandsState.EXITED, exit=Exit(code=0))
    assert [c.state for c in changes(None, seen)] == [S.WAITING, S.FORKED, S.RUNNING, S.SUCCESS]
    assert [c.state for c in changes(S.FORKED, seen)] == [S.RUNNING, S.SUCCESS]


def test_a_run_that_could_not_be_started_has_failed_without_running() -> None:
    seen = HandsRun("a", 0, HandsState.NOT_STARTED, error="cwd sandbox: No such file or directory")
    change = changes(S.FORKED, seen)
    assert [c.state for c in change] == [S.FAILED]
    assert change[0].error == "cwd sandbox: No such file or directory"


def test_a_state_of_a_newer_driver_changes_nothing() -> None:
    assert changes(S.FORKED, HandsRun("a", 0, 17)) == []


@given(
    st.sampled_from([None, *S]),
    st.sampled_from(list(HandsState)),
    st.builds(Exit, code=st.none() | st.integers(0, 255), signal=st.none() | st.integers(1, 64)) | st.none(),
)
def test_no_news_ever_leave_the_table_and_told_twice_they_change_nothing(
    before: S | None, state: HandsState, exit_: Exit | None
) -> None:
    seen = HandsRun("a", 0, state, exit=exit_)
    now = before
    for change in changes(before, seen):
        check(now, change.state)
        now = change.state
    assert changes(now, seen) == []
    if before in ENDED:
        assert now is before


@pytest.mark.parametrize("state", [s for s in S if s not in ENDED])
@pytest.mark.parametrize("found", [False, True])
def test_a_run_begins_only_after_the_last_one_has_ended(state: S, found: bool) -> None:
    with pytest.raises(IllegalTransition, match=f"run 4 begins while run 3 is {state.name}"):
        check_next(Run("a", 3, state), 4, found=found)


@pytest.mark.parametrize("state", list(ENDED))
def test_run_numbers_have_no_gaps_but_those_that_the_hands_have_made(state: S) -> None:
    last = Run("a", 3, state)
    check_next(None, 0, found=False)
    check_next(last, 4, found=False)
    check_next(None, 7, found=True)
    check_next(last, 7, found=True)
    for newest, number, found in [
        (None, 1, False),
        (None, -1, True),
        (last, 5, False),
        (last, 3, False),
        (last, 3, True),
        (last, 0, True),
    ]:
        with pytest.raises(IllegalTransition, match=f"run {number} where run"):
            check_next(newest, number, found=found)


def test_every_state_can_be_reached() -> None:
    assert set(TRANSITIONS) == set(S)


@pytest.mark.parametrize("told_at_once", [True, False])
def test_a_run_is_shown_to_begin_when_it_was_forked_and_never_after_its_end(told_at_once: bool) -> None:
    world = World(spec(A))
    world.launch()
    world.to_hands.clear()
    forked = WALL + world.now
    # The news takes three seconds; the process has lived for one.
    world.now += 3.0
    began = HandsRun("a", 0, HandsState.RUNNING, pid=7, start_ticks=1, forked_at=forked + 0.5)
    ended = began._replace(state=HandsState.EXITED, exit=Exit(code=0), exited_at=forked + 1.5)
    for seen in (ended,) if told_at_once else (began, ended):
        world.take(HandsSeen((seen,), 0))
    run = world.state.newest["a"]
    assert (run.forked_at, run.running_at, run.ended_at) == (forked, forked + 0.5, forked + 1.5)
