"""Starts that nobody confirms (Thermos: FORKED without RUNNING for 60 s is LOST)."""

from __future__ import annotations

from services.runner.budgets import Request
from services.runner.events import HandsSeen, StartRun, StopRun, Terminate, Tick
from services.runner.processes import Exit, HandsRun, HandsState, ProcessState
from services.runner.records import Cause, Phase
from services.runner.silence import START_WAIT
from services.runner.tasks import next_wakeup
from tests.unit.runner.world import BOOT, DONE, A, F, World, launched, phase_of, proc, running, spec, states

FORKED = HandsRun("a", 0, HandsState.FORKED, pid=1, start_ticks=1)


def silent(world: World) -> World:
    """The hands have lost the start."""
    world.swallow()
    assert not world.to_hands
    return world


def test_a_start_that_is_not_confirmed_within_60_s_is_lost_and_runs_again() -> None:
    world = silent(launched(spec(A)))
    assert START_WAIT == 60.0
    assert next_wakeup(world.state) == BOOT + 60.0
    world.pass_time(59.9)
    assert states(world) == {("a", 0): ProcessState.FORKED}
    world.pass_time(0.1)
    assert states(world) == {("a", 0): ProcessState.LOST, ("a", 1): ProcessState.FORKED}
    assert world.state.runs["a"][0].error == "the executor has not confirmed the start within 60 s"
    # First the old one is stopped for good, then the new one starts.
    assert list(world.to_hands) == [StopRun("a", 0), StartRun("a", 1)]
    world.settle(DONE)
    assert phase_of(world) is Phase.SUCCESS


def test_a_lost_start_is_no_failure_but_waits_for_min_duration_and_counts_for_the_run_limit() -> None:
    world = silent(launched(spec(proc("a", min_duration=5.0), run_limit=2)))
    world.pass_time(60.0)
    assert states(world)[("a", 1)] is ProcessState.WAITING
    assert world.state.regular.failures("a") == 0
    world.pass_time(5.0)
    world.settle()
    world.exit(("a", 1), Exit(signal=9))
    world.settle()
    assert phase_of(world) is Phase.FAILED
    assert world.state.message == "process 'a' failed: signal 9 (given up after 2 runs)"


def test_a_process_that_runs_may_be_silent_for_ever() -> None:
    world = running(spec(A))
    assert next_wakeup(world.state) is None


def test_a_process_that_was_forked_and_never_came_to_exec_is_stopped() -> None:
    world = launched(spec(A))
    world.get_stuck()
    world.pass_time(60.0)
    world.settle()
    assert world.living() == [("a", 1)]
    assert world.runs[("a", 0)].exit == Exit(signal=9)


def test_after_a_reconnection_the_time_of_a_forked_run_counts_from_its_fork() -> None:
    world = launched(spec(A))
    world.get_stuck()
    world.pass_time(40.0)
    world.reconnect()
    assert next_wakeup(world.state) == BOOT + 60.0


def test_after_a_restart_a_start_that_is_sent_again_has_its_full_time() -> None:
    world = silent(launched(spec(A)))
    world.pass_time(40.0)
    world.restart()
    world.reconnect()
    assert list(world.to_hands) == [StartRun("a", 0)]
    assert next_wakeup(world.state) == BOOT + 100.0


def test_without_a_connection_nobody_is_silent() -> None:
    world = silent(launched(spec(A)))
    world.restart()
    world.pass_time(1000.0)
    assert next_wakeup(world.state) is None
    assert states(world) == {("a", 0): ProcessState.FORKED}


def test_a_runner_that_was_frozen_itself_blames_nobody() -> None:
    world = silent(launched(spec(A)))
    world.now += 300.0
    world.take(Tick(late=True))
    assert states(world) == {("a", 0): ProcessState.FORKED}
    assert next_wakeup(world.state) == BOOT + 360.0
    # It was there all the time, and what it said is read now.
    world.take(HandsSeen([FORKED._replace(state=HandsState.RUNNING)], 1))
    assert next_wakeup(world.state) is None


def test_a_run_that_was_given_up_and_lives_after_all_is_stopped_whenever_it_shows() -> None:
    world = silent(launched(spec(A)))
    world.pass_time(60.0)
    world.settle()
    for state in (HandsState.FORKED, HandsState.RUNNING):
        decision = world.take(HandsSeen([FORKED._replace(state=state)], 2))
        assert decision.actions == [StopRun("a", 0)]
        assert decision.records == []


def test_a_task_that_is_over_except_for_a_silent_start_waits_until_it_is_stopped() -> None:
    world = launched(spec(proc("e", ephemeral=True), A, run_limit=1))
    world.get_stuck()
    world.settle()
    world.pass_time(60.0)
    world.exit(("a", 0), DONE)
    world.deliver()
    assert phase_of(world) is Phase.CLEANING
    world.settle()
    assert world.alive() == 0
    assert phase_of(world) is Phase.SUCCESS


def test_a_task_that_ends_by_giving_a_start_up_waits_until_it_is_stopped() -> None:
    world = launched(spec(A, run_limit=1))
    world.get_stuck()
    world.pass_time(60.0)
    assert list(world.to_hands) == [StopRun("a", 0), Terminate(BOOT + 90.0)]
    assert phase_of(world) is Phase.CLEANING
    world.settle()
    assert (phase_of(world), world.alive()) == (Phase.FAILED, 0)


def test_a_silent_start_does_not_hold_up_a_kill_for_ever() -> None:
    world = silent(launched(spec(A, F)))
    world.end(Request(Cause.KILL, grace=5.0))
    world.settle()
    assert world.terminates == [BOOT + 5.0]
    assert phase_of(world) is Phase.CLEANING
    world.run_out(None)
    assert phase_of(world) is Phase.KILLED
    assert world.now == BOOT + 60.0


def test_a_silent_finalizer_is_lost_too() -> None:
    world = running(spec(A, F, finalization_wait=1000.0))
    world.exit(("a", 0), DONE)
    world.deliver()
    silent(world)
    world.pass_time(60.0)
    world.settle()
    assert world.living() == [("f", 1)]
    world.settle(DONE)
    assert phase_of(world) is Phase.SUCCESS


def test_many_silent_starts_are_given_up_together_in_one_step() -> None:
    processes = [proc(f"p{n}") for n in range(50)]
    world = launched(spec(*processes))
    while world.to_hands:
        world.swallow()
    world.pass_time(60.0)
    assert [action for action in world.to_hands if isinstance(action, StopRun)] == [
        StopRun(name, 0) for name in sorted(process.name for process in processes)
    ]
    assert len(world.to_hands) == 100
    assert not any(isinstance(action, Terminate) for action in world.to_hands)
