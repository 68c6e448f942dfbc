"""Rules of the task state machine that are not about one moment (Thermos: task state machine, planner, recovery)."""

from __future__ import annotations

import pytest

from services.runner.budgets import Request
from services.runner.events import HandsSeen, StopRun, Terminate
from services.runner.processes import Exit, HandsRun, HandsState, ProcessState
from services.runner.records import Cause, Phase, PhaseRecord
from services.runner.state import PHASE_CHANGES, IllegalPhase, State, apply
from tests.unit.runner.world import (
    BOOT,
    DONE,
    A,
    F,
    World,
    launched,
    phase_of,
    proc,
    replayed,
    running,
    spec,
    states,
)

# Task state machine


def test_only_the_phase_changes_of_the_table_are_allowed() -> None:
    allowed = {
        (None, Phase.ACTIVE),
        (Phase.ACTIVE, Phase.CLEANING),
        (Phase.CLEANING, Phase.FINALIZING),
        (Phase.CLEANING, Phase.SUCCESS),
        (Phase.FINALIZING, Phase.SUCCESS),
        *((before, end) for before in (Phase.ACTIVE, Phase.CLEANING, Phase.FINALIZING) for end in list(Phase)[4:]),
    }
    assert {(before, after) for after, befores in PHASE_CHANGES.items() for before in befores} == allowed
    for before in (None, *Phase):
        for after in Phase:
            state = State.new(spec(A))
            state.phase = before
            state.cause = None if before is None else Cause.PLAN
            moment = World(spec(A)).moment()
            if (before, after) in allowed:
                apply(state, PhaseRecord(moment, after))
                assert state.phase is after
            else:
                with pytest.raises(IllegalPhase):
                    apply(state, PhaseRecord(moment, after))


def test_a_terminal_phase_is_final() -> None:
    world = running(spec(A))
    world.exit(("a", 0), DONE)
    world.settle()
    for request in (Request(Cause.KILL), Request(Cause.LOSE), Request(Cause.DISK_LIMIT)):
        assert world.take(request).records == []
    assert phase_of(world) is Phase.SUCCESS


def test_a_task_with_two_failures_allowed_deadlocks_when_one_failure_blocks_the_rest() -> None:
    world = running(spec(A, proc("b"), proc("c"), order="a b c", max_failures=2))
    world.exit(("a", 0), DONE)
    world.settle()
    world.exit(("b", 0), Exit(code=1))
    world.settle()
    assert phase_of(world) is Phase.FAILED
    assert world.state.message.startswith("deadlock: 'c' can never run")


def test_no_limit_of_failed_processes_means_that_failures_alone_never_fail_the_task() -> None:
    names = [f"p{n}" for n in range(20)]
    world = running(spec(*map(proc, names), max_failures=0))
    world.settle(Exit(code=1))
    assert phase_of(world) is Phase.SUCCESS


def test_an_ephemeral_process_neither_holds_nor_fails_the_task_and_is_ended_with_it() -> None:
    world = running(spec(A, proc("e", ephemeral=True, max_failures=1), proc("g", ephemeral=True)))
    world.exit(("e", 0), Exit(code=9))
    world.settle()
    assert phase_of(world) is Phase.ACTIVE
    world.exit(("a", 0), DONE)
    world.deliver()
    assert list(world.to_hands) == [Terminate(BOOT + 30.0)]
    world.settle(Exit(signal=15))
    assert (phase_of(world), world.state.message) == (Phase.SUCCESS, "Task completed")


def test_a_daemon_holds_the_task_until_somebody_ends_it() -> None:
    world = running(spec(A, proc("d", daemon=True, min_duration=1.0)))
    world.exit(("a", 0), DONE)
    for run in range(5):
        world.settle()
        world.exit(("d", run), DONE)
        world.settle()
        assert phase_of(world) is Phase.ACTIVE
        world.pass_time(1.0)
    world.end(Request(Cause.KILL))
    world.settle(Exit(signal=15))
    assert phase_of(world) is Phase.KILLED


def test_an_ephemeral_daemon_runs_again_and_again_but_does_not_hold_the_task() -> None:
    world = running(spec(A, proc("d", daemon=True, ephemeral=True)))
    for run in range(3):
        world.exit(("d", run), DONE)
        world.settle()
    world.exit(("a", 0), DONE)
    world.settle()
    world.settle(Exit(signal=15))
    assert phase_of(world) is Phase.SUCCESS


def test_a_daemon_that_fails_too_often_fails() -> None:
    world = running(spec(proc("d", daemon=True, max_failures=2)))
    world.exit(("d", 0), DONE)
    world.settle()
    for run in (1, 2):
        world.exit(("d", run), Exit(code=1))
        world.settle()
    assert phase_of(world) is Phase.FAILED


def test_a_predecessor_that_was_killed_does_not_let_its_successors_run() -> None:
    world = running(spec(A, proc("b"), order="a b"))
    world.exit(("a", 0), Exit(signal=9))
    world.settle()
    assert world.living() == [("a", 1)]


def test_a_plan_with_regular_processes_only_ephemeral_is_over_at_once() -> None:
    assert phase_of(running(spec(proc("e", ephemeral=True)))) is Phase.SUCCESS


# Faults of the old runner


def test_a_kill_between_fork_and_exec_sends_sigterm_at_once() -> None:
    world = launched(spec(A))
    world.get_stuck()
    world.end(Request(Cause.KILL, grace=5.0))
    world.settle()
    assert world.terminates == [BOOT + 5.0]
    world.run_out(None)
    assert world.now == BOOT + 5.0


def test_a_kill_keeps_to_the_finalization_wait() -> None:
    world = running(spec(A, finalization_wait=3.0))
    world.end(Request(Cause.KILL))
    world.run_out(None)
    assert (phase_of(world), world.now) == (Phase.KILLED, BOOT + 3.0)


def test_the_last_record_of_a_task_is_its_end() -> None:
    world = running(spec(A, proc("e", ephemeral=True), F))
    world.end(Request(Cause.KILL, grace=1.0))
    world.run_out(None)
    world.take(HandsSeen(list(world.runs.values()), 0))
    assert isinstance(world.records[-1], PhaseRecord)
    assert world.records[-1].phase is Phase.KILLED
    assert all(run.state not in (ProcessState.FORKED, ProcessState.RUNNING) for run in world.state.newest.values())


def test_exit_codes_and_ends_of_failed_runs_survive_a_replay() -> None:
    world = running(spec(proc("a", max_failures=3)))
    for run in range(3):
        world.now += 1.0
        world.exit(("a", run), Exit(code=10 + run))
        world.settle()
    again = replayed(world.spec, world.records)
    assert [run.exit for run in again.runs["a"].values()] == [Exit(code=10), Exit(code=11), Exit(code=12)]
    assert all(run.ended_at > run.running_at > 0 for run in again.runs["a"].values())


def test_a_replay_does_nothing() -> None:
    world = running(spec(A, F))
    world.end(Request(Cause.KILL))
    world.settle()
    world.to_hands.clear()
    before = list(world.records)
    world.restart()
    assert (list(world.to_hands), world.records, world.state.view.told) == ([], before, None)


def test_an_outside_signal_is_a_silent_restart_and_a_code_above_128_a_failure() -> None:
    world = running(spec(A))
    world.exit(("a", 0), Exit(signal=9))
    world.settle()
    assert (world.living(), world.state.regular.failures("a")) == ([("a", 1)], 0)
    world.exit(("a", 1), Exit(code=137))
    world.settle()
    assert phase_of(world) is Phase.FAILED


# What the other tests would not notice


def test_the_message_of_the_first_end_request_stays() -> None:
    world = running(spec(A))
    world.end(Request(Cause.UNHEALTHY, grace=10.0, seq=1, message="checks failed"))
    first = (world.state.cause, world.state.verdict, world.state.message, world.state.ended_at, world.state.end_at)
    world.now += 1
    world.end(Request(Cause.KILL, grace=2.0, seq=2, message="somebody asked"))
    last = (world.state.cause, world.state.verdict, world.state.message, world.state.ended_at, world.state.end_at)
    assert first[:4] == last[:4]
    assert last[4] < first[4], "the second one was taken in"
    assert "checks failed" in world.state.message


def test_a_task_rebuilt_while_its_final_processes_ran_goes_on_with_them() -> None:
    task = spec(A, F)
    world = World(task)
    world.runs = {
        ("a", 0): HandsRun("a", 0, HandsState.EXITED, exit=DONE),
        ("f", 0): HandsRun("f", 0, HandsState.RUNNING, pid=2, start_ticks=1),
    }
    world.take(HandsSeen(list(world.runs.values()), 1, hello=True))
    assert phase_of(world) is Phase.FINALIZING
    world.settle()
    assert world.terminates == [], "the final process is not signalled as if it were a leftover"
    world.settle(DONE)
    assert phase_of(world) is Phase.SUCCESS
    assert world.started == []


@pytest.mark.parametrize("started", [False, True])
def test_a_run_that_a_newer_one_has_overtaken_is_lost_and_stopped(started: bool) -> None:
    world = running(spec(A)) if started else launched(spec(A))
    newer = HandsRun("a", 1, HandsState.RUNNING, pid=9, start_ticks=1)
    decision = world.take(HandsSeen([newer], 2))
    assert StopRun("a", 0) in decision.actions
    assert StopRun("a", 1) not in decision.actions
    assert states(world) == {("a", 0): ProcessState.LOST, ("a", 1): ProcessState.RUNNING}
    assert world.state.runs["a"][0].error == "a newer run was found"
