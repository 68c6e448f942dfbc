"""When a process runs again, and when no more: min_duration and the run limit (Thermos: planner)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from services.runner.events import StartRun
from services.runner.plan import Outcome, Plan
from services.runner.processes import Exit
from services.runner.records import Phase
from services.runner.spec import ProcessSpec
from services.runner.tasks import next_wakeup
from tests.unit.runner.rig import Rig, in_loop
from tests.unit.runner.world import BOOT, A, launched, phase_of, proc, running, spec
from trivet.link.v1 import link_pb2

if TYPE_CHECKING:
    from pathlib import Path


def test_min_duration_is_the_gap_from_the_end_of_a_run_to_the_next_start() -> None:
    world = running(spec(proc("a", min_duration=5.0, max_failures=2)))
    world.pass_time(100.0)
    world.exit(("a", 0), Exit(code=1))
    world.settle()
    # However long it ran: counted from its end.
    assert next_wakeup(world.state) == BOOT + 105.0
    assert world.living() == []
    world.pass_time(5.0)
    world.settle()
    assert world.living() == [("a", 1)]


def test_the_first_run_does_not_wait_for_min_duration() -> None:
    assert list(launched(spec(proc("a", min_duration=500.0))).to_hands) == [StartRun("a", 0)]


def test_min_duration_goes_on_while_no_runner_is_there() -> None:
    world = running(spec(proc("a", min_duration=5.0, max_failures=2)))
    world.exit(("a", 0), Exit(code=1))
    world.settle()
    world.now += 3.0
    world.restart()
    world.reconnect()
    assert next_wakeup(world.state) == BOOT + 5.0


@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("limit", [0, 1, 3])
def test_the_run_limit_counts_every_end_and_is_off_at_zero(outcome: Outcome, limit: int) -> None:
    daemon = ProcessSpec("d", max_failures=0, min_duration=0.0, daemon=True)
    other = ProcessSpec("p", max_failures=0, min_duration=0.0)
    plan = Plan([daemon, other], {}, run_limit=limit)
    for _ in range(limit or 500):
        assert plan.failed == []
        for name in list(plan.runnable):
            plan.waiting(name)
            plan.forked(name)
            plan.ended(name, outcome, 0.0)
    # Daemons are exempt, and a success is none of its business.
    assert plan.failed == (["p"] if limit and outcome is not Outcome.SUCCESS else [])


def test_the_run_limit_holds_across_restarts() -> None:
    world = running(spec(A, run_limit=4))
    for run in range(4):
        world.exit(("a", run), Exit(signal=9))
        world.settle()
        world.restart()
        world.reconnect()
        world.settle()
    assert (phase_of(world), len(world.started)) == (Phase.FAILED, 4)


def test_the_run_limit_of_a_task_is_the_one_that_it_came_with(tmp_path: Path) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path, run_limit=3)
        session = rig.attach()
        task: dict[str, Any] = {"processes": [{"name": "p", "cmdline": "true", "max_failures": 0, "min_duration": 0}]}
        key = rig.launch(session, **task)
        for run in range(2):
            rig.exit(session, key, run, code=1)
        rig.runner.close()
        # A runner with another setting: new tasks have its limit, this one keeps its own.
        rig = Rig(tmp_path, run_limit=50)
        hands = rig.runner.books[key]
        assert hands.state.spec.run_limit == 3
        session = rig.attach(link_pb2.HelloTask(key=key.to_pb()))
        rig.exit(session, key, 2, code=1)
        assert rig.runner.books[key].state.phase is Phase.FAILED
        assert "given up after 3 runs" in rig.runner.books[key].state.message
        other = rig.launch(session, "t2")
        assert rig.runner.books[other].state.spec.run_limit == 50

    in_loop(scenario)
