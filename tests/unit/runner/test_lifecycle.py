"""Lifecycle endpoints are asked before SIGTERM, within the budget (Aurora: HTTP lifecycle; design: how a task ends)."""

from __future__ import annotations

from typing import Any

import pytest

from services.runner.budgets import Request
from services.runner.events import Lifecycle, LifecycleDone, Terminate
from services.runner.records import Cause, Phase, SnapshotRecord, decode, encode
from services.runner.state import State, apply, snapshot
from services.runner.tasks import next_wakeup
from tests.unit.runner.world import BOOT, DONE, A, F, World, facts, phase_of, proc, replayed, running, spec

WAITS = (5.0, 5.0)


def killed(cause: Cause = Cause.KILL, waits: tuple[float, ...] = WAITS, **options: Any) -> World:
    """A task that was running when its end was requested."""
    request = {name: options.pop(name) for name in ("grace", "deadline") if name in options}
    world = running(spec(A, lifecycle=waits, **options))
    world.end(Request(cause, **request))
    return world


def test_the_endpoints_come_in_order_each_with_its_wait_and_then_sigterm() -> None:
    world = killed()
    assert list(world.to_hands) == [Lifecycle(0, BOOT + 5.0)]
    world.settle()
    world.pass_time(5.0)
    assert list(world.to_hands) == [Lifecycle(1, BOOT + 10.0)]
    world.settle()
    assert world.terminates == []
    world.pass_time(5.0)
    assert list(world.to_hands) == [Terminate(BOOT + 30.0)]
    world.settle()
    world.settle(DONE)
    assert phase_of(world) is Phase.KILLED
    assert [order.step for order in world.asked] == [0, 1]


def test_any_answer_counts_and_only_no_answer_skips_the_wait() -> None:
    world = killed()
    world.answers = False
    world.settle()
    # Nobody answers either of the two: SIGTERM comes at once.
    assert [order.step for order in world.asked] == [0, 1]
    assert world.terminates == [BOOT + 30.0]


def test_a_task_that_ends_during_the_wait_is_not_asked_again_and_not_signalled() -> None:
    world = killed()
    world.settle()
    world.pass_time(1.0)
    world.settle(DONE)
    assert phase_of(world) is Phase.KILLED
    assert (world.terminates, [order.step for order in world.asked]) == ([], [0])
    assert world.now == BOOT + 1.0


@pytest.mark.parametrize(
    ("cause", "asked"),
    [
        (Cause.KILL, True),
        (Cause.SHUTDOWN, True),
        (Cause.UNHEALTHY, True),
        (Cause.DISK_LIMIT, True),
        (Cause.AGENT_GONE, True),
        (Cause.OPERATOR, True),
        # No time at all.
        (Cause.COMPLETION_TIME, False),
        (Cause.LOSE, False),
    ],
)
def test_every_requested_end_that_has_time_asks_first(cause: Cause, asked: bool) -> None:
    world = killed(cause)
    assert isinstance(world.to_hands[0], Lifecycle) == asked


def test_a_plan_that_has_come_to_its_own_end_asks_nobody() -> None:
    world = running(spec(A, proc("e", ephemeral=True), lifecycle=WAITS))
    world.exit(("a", 0), DONE)
    world.deliver()
    assert list(world.to_hands) == [Terminate(BOOT + 30.0)]


def test_the_waits_never_go_beyond_the_deadline_of_the_kill() -> None:
    world = killed(grace=8.0)
    assert list(world.to_hands) == [Lifecycle(0, BOOT + 2.0)]
    world.settle()
    world.pass_time(2.0)
    assert list(world.to_hands) == [Lifecycle(1, BOOT + 4.0)]
    world.settle()
    world.pass_time(2.0)
    assert list(world.to_hands) == [Terminate(BOOT + 8.0)]


@pytest.mark.parametrize(
    ("waits", "grace", "asked_at", "told_at"),
    [
        ((5.0, 5.0), 4.0, [0.0, 1.0], 2.0),
        # Each has its share of what there is.
        ((6.0, 2.0), 8.0, [0.0, 3.0], 4.0),
        ((0.0, 5.0), 4.0, [0.0, 0.0], 2.0),
        # Enough for all: as the task says.
        ((5.0, 5.0), 20.0, [0.0, 5.0], 10.0),
    ],
)
def test_sigterm_has_half_of_the_budget_however_long_the_waits_are(
    waits: tuple[float, float], grace: float, asked_at: list[float], told_at: float
) -> None:
    world = killed(waits=waits, grace=grace)
    asked: list[float] = []
    while not world.terminates:
        orders = [order for order in world.to_hands if isinstance(order, Lifecycle)]
        asked += [world.now - BOOT for _ in orders]
        told = world.now - BOOT
        world.settle()
        wakeup = next_wakeup(world.state)
        if not world.terminates:
            assert wakeup is not None
            world.pass_time(wakeup - world.now)
            told = world.now - BOOT
            if any(isinstance(order, Terminate) for order in world.to_hands):
                break
    assert (asked, told) == (asked_at, told_at)


def test_an_endpoint_that_nobody_answers_leaves_its_share_to_the_next() -> None:
    world = killed(grace=4.0)
    world.pass_time(0.5)
    world.take(LifecycleDone(0, answered=False))
    # 1.5 s are left of the two.
    assert list(world.to_hands)[-1] == Lifecycle(1, BOOT + 2.0)


def test_a_runner_that_comes_back_late_goes_on_with_sigterm() -> None:
    world = killed(grace=4.0)
    world.settle()
    world.restart()
    world.pass_time(2.5)
    world.to_hands.clear()
    world.reconnect()
    assert list(world.to_hands) == [Terminate(BOOT + 4.0)]


def test_a_later_kill_with_less_time_cuts_the_wait_short() -> None:
    world = killed()
    world.settle()
    world.end(Request(Cause.KILL, seq=2, grace=2.0))
    assert next_wakeup(world.state) == BOOT + 1.0
    world.end(Request(Cause.SHUTDOWN, seq=3, grace=0.0))
    assert list(world.to_hands) == [Terminate(BOOT)]


def test_a_wait_of_zero_asks_and_goes_on() -> None:
    world = killed(waits=(0.0, 0.0))
    # The requests have a second to get out; nobody waits for what they do.
    assert list(world.to_hands) == [
        Lifecycle(0, BOOT + 1.0),
        Lifecycle(1, BOOT + 1.0),
        Terminate(BOOT + 30.0),
    ]


def test_final_processes_run_after_it_in_what_is_left_of_the_budget() -> None:
    world = running(spec(A, F, lifecycle=WAITS))
    world.end(Request(Cause.KILL, grace=20.0))
    world.settle()
    world.pass_time(5.0)
    world.settle()
    world.exit(("a", 0), DONE)
    world.settle()
    assert world.living() == [("f", 0)]
    assert next_wakeup(world.state) == BOOT + 20.0


def test_a_restart_of_the_runner_asks_the_same_endpoint_again_and_keeps_the_deadline() -> None:
    world = killed()
    world.pass_time(2.0)
    world.to_hands.clear()
    world.restart()
    world.reconnect()
    assert list(world.to_hands) == [Lifecycle(0, BOOT + 5.0)]
    # The task may have closed its port because it obeys the first request: it keeps its wait.
    world.answers = False
    world.settle()
    assert world.terminates == []
    world.pass_time(3.0)
    world.settle()
    assert [order.step for order in world.asked] == [0, 1]
    assert world.terminates == [BOOT + 30.0]


def test_an_endpoint_that_has_answered_is_not_asked_again_after_a_restart() -> None:
    world = killed()
    world.settle()
    world.restart()
    world.reconnect()
    assert list(world.to_hands) == []
    assert next_wakeup(world.state) == BOOT + 5.0
    assert facts(replayed(world.spec, world.records)) == facts(world.state)


def test_after_the_last_wait_a_new_connection_goes_on_with_sigterm() -> None:
    world = killed()
    world.pass_time(5.0)
    world.pass_time(5.0)
    world.to_hands.clear()
    world.restart()
    world.reconnect()
    assert list(world.to_hands) == [Terminate(BOOT + 30.0)]


@pytest.mark.parametrize("answered", [True, False])
def test_answers_to_other_steps_or_at_other_times_change_nothing(answered: bool) -> None:
    world = running(spec(A, lifecycle=WAITS))
    assert world.take(LifecycleDone(0, answered)).records == []
    world.end(Request(Cause.KILL))
    assert world.take(LifecycleDone(1, answered)).records == []
    assert world.take(LifecycleDone(-1, answered)).records == []
    world.pass_time(5.0)
    assert world.take(LifecycleDone(0, answered)).records == []
    world.pass_time(5.0)
    assert world.take(LifecycleDone(1, answered)).records == []


def test_a_task_of_which_nothing_runs_is_not_asked() -> None:
    world = World(spec(A, lifecycle=WAITS))
    world.launch()
    world.settle()
    world.exit(("a", 0), DONE)
    world.to_runner.clear()
    world.restart()
    world.ends.append(Request(Cause.KILL))
    world.hello()
    assert phase_of(world) is Phase.KILLED
    assert world.asked == []


def test_a_compacted_journal_keeps_the_step_and_one_of_an_older_version_is_read() -> None:
    world = killed()
    world.settle()
    saved = decode(encode(snapshot(world.state, world.moment())))
    assert isinstance(saved, SnapshotRecord)
    state = State.new(world.spec)
    apply(state, saved)
    assert facts(state) == facts(world.state)
    assert (state.step, state.step_until, state.step_answered) == (0, BOOT + 5.0, True)
    for name in ("step", "step_until", "step_answered"):
        del saved.state[name]
    for run in saved.state["runs"]["a"]:
        del run["forked_boot"]
    older = State.new(world.spec)
    apply(older, saved)
    assert (older.step, older.phase) == (-1, Phase.CLEANING)
