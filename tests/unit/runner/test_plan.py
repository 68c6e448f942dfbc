"""The planner's rules, row by row (Thermos: planner)."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import pytest

from services.runner.plan import RUN_LIMIT, Outcome, Plan, Slot
from services.runner.spec import ProcessSpec


def plan(*processes: ProcessSpec, order: str = "", **options: Any) -> Plan:
    names = order.split()
    successors = {first: (second,) for first, second in pairwise(names)}
    return Plan(processes, successors, **options)


def proc(name: str, **options: Any) -> ProcessSpec:
    return ProcessSpec(name, **{"min_duration": 0.0, **options})


def ready(plan_: Plan, now: float = 0.0) -> list[str]:
    """Forks everything that may be forked now."""
    for runnable in plan_.runnable:
        plan_.waiting(runnable)
    forked = []
    while (name := plan_.next_ready(now)) is not None:
        plan_.forked(name)
        forked.append(name)
    return forked


def run(plan_: Plan, name: str, outcome: Outcome, now: float = 0.0) -> None:
    assert name in ready(plan_, now)
    plan_.ended(name, outcome, now)


def test_successors_run_only_after_success() -> None:
    p = plan(proc("a"), proc("b"), order="a b")
    assert ready(p) == ["a"]
    p.ended("a", Outcome.SUCCESS, 1.0)
    assert ready(p, 1.0) == ["b"]
    assert not p.complete
    p.ended("b", Outcome.SUCCESS, 2.0)
    assert p.complete
    assert not p.deadlocked


def test_a_failed_predecessor_is_a_deadlock() -> None:
    p = plan(proc("a"), proc("b"), order="a b")
    run(p, "a", Outcome.FAILED)
    assert (p.failed, p.complete, p.deadlocked) == (["a"], False, True)
    assert p.blocked() == ["b"]


def test_a_process_fails_at_its_last_allowed_failure() -> None:
    p = plan(proc("a", max_failures=2))
    run(p, "a", Outcome.FAILED)
    assert p.failed == []
    run(p, "a", Outcome.FAILED)
    assert p.failed == ["a"]
    assert p.complete


def test_without_a_limit_of_failures_the_run_limit_ends_it() -> None:
    p = plan(proc("a", max_failures=0))
    for _ in range(RUN_LIMIT):
        assert p.failed == []
        run(p, "a", Outcome.FAILED)
    assert p.failed == ["a"]


@pytest.mark.parametrize("outcome", [Outcome.KILLED, Outcome.LOST])
def test_killed_and_lost_runs_are_no_failures_but_throttled_and_counted(outcome: Outcome) -> None:
    p = plan(proc("a", min_duration=5.0))
    run(p, "a", outcome, 10.0)
    assert p.failures("a") == 0
    assert ready(p, 14.9) == []
    assert p.next_wakeup() == 15.0
    assert ready(p, 15.0) == ["a"]
    p.ended("a", outcome, 15.0)
    for number in range(1, RUN_LIMIT - 1):
        assert p.failed == []
        run(p, "a", outcome, 1000.0 * number)
    assert p.failed == ["a"]


def test_a_daemon_runs_again_after_success_and_has_no_run_limit() -> None:
    p = plan(proc("a", daemon=True))
    for _ in range(RUN_LIMIT + 5):
        run(p, "a", Outcome.SUCCESS)
    assert p.failed == []
    assert not p.complete
    assert not p.deadlocked


def test_ephemeral_processes_do_not_hold_the_plan_and_never_fail_it() -> None:
    p = plan(proc("a"), proc("e", ephemeral=True), proc("f", ephemeral=True), order="e f")
    assert ready(p) == ["a", "e"]
    p.ended("e", Outcome.FAILED, 0.0)
    assert p.failed == []
    # A failed ephemeral process counts as finished for its successors.
    assert ready(p) == ["f"]
    p.ended("a", Outcome.SUCCESS, 0.0)
    assert p.complete


def test_a_running_ephemeral_process_does_not_hide_a_deadlock() -> None:
    p = plan(proc("a"), proc("b"), proc("e", ephemeral=True), order="a b")
    assert ready(p) == ["a", "e"]
    p.ended("a", Outcome.FAILED, 0.0)
    assert p.deadlocked


def test_max_concurrency_is_never_exceeded_and_never_wakes_in_vain() -> None:
    p = plan(*(proc(f"p{n}") for n in range(5)), max_concurrency=2)
    assert ready(p) == ["p0", "p1"]
    assert p.next_wakeup() is None
    p.ended("p1", Outcome.SUCCESS, 0.0)
    assert ready(p) == ["p2"]
    assert p.running == 2


def test_ready_processes_come_in_the_order_of_the_task() -> None:
    p = plan(proc("c"), proc("a"), proc("b"))
    assert ready(p) == ["c", "a", "b"]


def test_a_run_that_came_before_its_turn_does_not_let_the_process_run_again_before_it() -> None:
    # Books rebuilt after a loss: the hands had run `b`, while the exit of `a` is lost.
    p = plan(proc("a"), proc("b"), order="a b")
    p.waiting("b")
    p.forked("b")
    p.ended("b", Outcome.KILLED, 0.0)
    assert p.slot("b") is Slot.BLOCKED
    run(p, "a", Outcome.SUCCESS)
    assert ready(p) == ["b"]


@pytest.mark.parametrize("restored", [False, True])
def test_a_process_that_finishes_twice_unblocks_its_successors_once(restored: bool) -> None:
    processes = [proc("a"), proc("b"), proc("c")]
    successors = {"a": ("c",), "b": ("c",)}
    p = Plan(processes, successors)
    assert ready(p) == ["a", "b"]
    p.ended("a", Outcome.SUCCESS, 0.0)
    if restored:
        counts = p.counts()
        p = Plan(processes, successors)
        p.restore(counts)
    # The hands know a run of `a` that the books do not.
    p.waiting("a")
    p.forked("a")
    p.ended("a", Outcome.SUCCESS, 0.0)
    assert p.slot("c") is Slot.BLOCKED
    p.ended("b", Outcome.SUCCESS, 0.0)
    assert ready(p) == ["c"]


def test_an_empty_plan_is_complete() -> None:
    assert plan().complete
    assert not plan().deadlocked


def test_planning_is_linear() -> None:
    def seconds(count: int) -> float:
        names = [f"p{n}" for n in range(count)]
        p = plan(*(proc(name) for name in names), order=" ".join(names))
        start = time.perf_counter()
        for name in names:
            run(p, name, Outcome.SUCCESS)
        assert p.complete
        return time.perf_counter() - start

    seconds(500)
    # Quadratic would be 100 times; the rest is for a busy machine.
    assert min(seconds(10_000) for _ in range(3)) < 40 * min(seconds(1_000) for _ in range(3))
