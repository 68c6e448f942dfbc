"""How long ends may take, and what finalizers have of it (Thermos: finalization_wait)."""

from __future__ import annotations

from typing import Any

import pytest

from services.runner import budgets
from services.runner.budgets import Request
from services.runner.events import Terminate
from services.runner.processes import Exit
from services.runner.records import Cause, Phase
from services.runner.tasks import next_wakeup
from tests.unit.runner.world import BOOT, DONE, A, F, phase_of, proc, running, spec


def test_finalizers_run_after_success_failure_and_kill_and_never_change_the_verdict() -> None:
    for exit_, request, phase in (
        (DONE, None, Phase.SUCCESS),
        (Exit(code=1), None, Phase.FAILED),
        (Exit(signal=15), Request(Cause.KILL), Phase.KILLED),
    ):
        world = running(spec(A, F))
        if request:
            world.end(request)
        world.exit(("a", 0), exit_)
        world.settle()
        assert world.living() == [("f", 0)]
        world.exit(("f", 0), Exit(code=1))
        world.settle()
        assert world.state.phase is phase


@pytest.mark.parametrize("wait", [0.0, 3.0])
def test_finalizers_have_what_is_left_of_the_budget(wait: float) -> None:
    world = running(spec(A, proc("e", ephemeral=True), F, finalization_wait=wait))
    world.exit(("a", 0), DONE)
    world.settle()
    if wait:
        world.pass_time(1.0)
        world.exit(("e", 0), Exit(signal=15))
        world.settle()
        assert phase_of(world) is Phase.FINALIZING
        assert next_wakeup(world.state) == BOOT + wait
        world.pass_time(wait - 1.0)
    world.settle()
    assert phase_of(world) is Phase.SUCCESS
    assert (("f", 0) in world.runs) == bool(wait)


def test_a_daemon_finalizer_runs_again_until_the_time_is_up() -> None:
    world = running(spec(A, proc("f", final=True, daemon=True, min_duration=1.0), finalization_wait=5.0))
    world.exit(("a", 0), DONE)
    for _ in range(4):
        world.settle(DONE)
        world.pass_time(1.0)
    assert phase_of(world) is Phase.FINALIZING
    world.run_out(None)
    assert phase_of(world) is Phase.SUCCESS
    assert len(world.started) > 3


def test_what_finalizers_leave_behind_is_ended_too() -> None:
    world = running(spec(A, F))
    world.exit(("a", 0), DONE)
    world.settle()
    world.exit(("f", 0), DONE, leftovers=1)
    world.settle()
    assert phase_of(world) is Phase.FINALIZING
    assert world.terminates == [BOOT + 30.0]
    world.run_out(None)
    assert phase_of(world) is Phase.SUCCESS


@pytest.mark.parametrize(
    ("options", "graces"),
    [
        ({}, (30, 30)),
        ({"final": True}, (30, 60)),
        ({"final": True, "finalization_wait": 10.0}, (10, 20)),
        ({"final": True, "finalization_wait": 40.0}, (40, 60)),
        ({"final": True, "finalization_wait": 100.0}, (100, 100)),
        ({"final": True, "kill_grace": 7.0}, (7, 7)),
        ({"finalization_wait": 0.0}, (0, 0)),
    ],
)
def test_the_default_budget_of_a_kill(options: dict[str, Any], graces: tuple[float, float]) -> None:
    final = options.pop("final", False)
    task = spec(A, F, **options) if final else spec(A, **options)
    assert budgets.kill_graces(task) == graces


@pytest.mark.parametrize(
    ("request_", "budget"),
    [
        (Request(Cause.KILL), (130, 160)),
        (Request(Cause.KILL, grace=5.0), (105, 105)),
        (Request(Cause.KILL, grace=0.0), (100, 100)),
        (Request(Cause.KILL, grace=-3.0), (100, 100)),
        (Request(Cause.KILL, grace=float("nan")), (130, 160)),
        (Request(Cause.KILL, deadline=110.0), (110, 110)),
        (Request(Cause.KILL, deadline=140.0), (130, 140)),
        (Request(Cause.SHUTDOWN, deadline=1.0), (1, 1)),
        (Request(Cause.COMPLETION_TIME), (100, 100)),
    ],
)
def test_the_budget_of_a_request(request_: Request, budget: tuple[float, float]) -> None:
    assert budgets.requested(spec(A, F), request_, 100.0) == budget


@pytest.mark.parametrize("seconds_before", [0.0, 10.0, 29.0])
def test_a_restart_while_cleaning_does_not_start_the_budget_anew(seconds_before: float) -> None:
    world = running(spec(A, proc("e", ephemeral=True)))
    world.exit(("a", 0), DONE)
    world.settle()
    world.pass_time(seconds_before)
    world.restart()
    world.reconnect()
    assert list(world.to_hands) == [Terminate(BOOT + 30.0)]


def test_a_restart_while_finalizing_neither_kills_nor_repeats_finalizers() -> None:
    world = running(spec(A, F))
    world.exit(("a", 0), DONE)
    world.settle()
    assert world.living() == [("f", 0)]
    world.pass_time(10.0)
    world.restart()
    world.reconnect()
    assert list(world.to_hands) == []
    assert next_wakeup(world.state) == BOOT + 30.0
    world.settle(DONE)
    assert (phase_of(world), world.started) == (Phase.SUCCESS, [("a", 0), ("f", 0)])


def test_a_kill_with_finalizers_takes_60_s_in_all() -> None:
    world = running(spec(A, F))
    world.end(Request(Cause.KILL))
    world.settle()
    assert world.terminates == [BOOT + 30.0]
    world.pass_time(30.0)
    world.settle()
    assert world.living() == [("f", 0)]
    world.run_out(None)
    assert (phase_of(world), world.now) == (Phase.KILLED, BOOT + 60.0)
