"""How tasks end: causes, budgets, and a kill at every moment (design: how a task ends)."""

from __future__ import annotations

import dataclasses

import pytest

from services.runner.budgets import Request
from services.runner.events import Gone, HandsSeen, Overruled, Resumed, StartRun, Terminate, Tick
from services.runner.processes import Exit, HandsRun, HandsState, ProcessState
from services.runner.records import Cause, Phase
from services.runner.tasks import decide, next_wakeup
from tests.unit.runner.world import BOOT, DONE, A, F, World, launched, phase_of, proc, running, spec, states


def test_the_last_exit_ends_the_task_in_the_same_step() -> None:
    world = running(spec(A))
    world.exit(("a", 0), DONE)
    decision = world.take(world.to_runner.popleft())
    assert phase_of(world) is Phase.SUCCESS
    assert decision.actions == []


@pytest.mark.parametrize(
    ("cause", "phase"),
    [
        (Cause.KILL, Phase.KILLED),
        (Cause.SHUTDOWN, Phase.KILLED),
        (Cause.AGENT_GONE, Phase.KILLED),
        (Cause.OPERATOR, Phase.KILLED),
        (Cause.UNHEALTHY, Phase.FAILED),
        (Cause.DISK_LIMIT, Phase.FAILED),
        (Cause.COMPLETION_TIME, Phase.FAILED),
    ],
)
def test_the_cause_decides_whatever_the_processes_say(cause: Cause, phase: Phase) -> None:
    for exit_ in (DONE, Exit(code=1), Exit(signal=15)):
        world = running(spec(A))
        world.end(Request(cause))
        world.settle(exit_)
        assert (world.state.phase, world.state.cause) == (phase, cause)


@pytest.mark.parametrize("exit_", [DONE, Exit(code=1), Exit(signal=15)])
def test_a_task_that_mesos_health_check_ends_was_killed(exit_: Exit) -> None:
    world = running(dataclasses.replace(spec(A), health_kills=True))
    world.end(Request(Cause.UNHEALTHY))
    world.settle(exit_)
    assert (world.state.phase, world.state.cause) == (Phase.KILLED, Cause.UNHEALTHY)


def test_a_kill_before_anything_was_spawned_starts_nothing_not_even_finalizers() -> None:
    world = World(spec(A, F))
    decision = world.take(HandsSeen((), 0, hello=True), Request(Cause.KILL))
    assert decision.actions == []
    assert phase_of(world) is Phase.KILLED
    assert states(world) == {}


def test_a_kill_while_a_run_waits() -> None:
    world = running(spec(proc("a", min_duration=60.0, max_failures=0)))
    world.exit(("a", 0), Exit(code=1))
    world.settle()
    assert states(world)[("a", 1)] is ProcessState.WAITING
    world.end(Request(Cause.KILL))
    assert phase_of(world) is Phase.KILLED
    assert world.terminates == []


def test_a_kill_while_a_start_is_under_way_ends_the_process_first() -> None:
    world = launched(spec(A))
    world.take(Request(Cause.KILL, grace=5.0))
    assert list(world.to_hands) == [StartRun("a", 0), Terminate(BOOT + 5.0)]
    # Said before the hands heard of the start.
    world.take(HandsSeen((), 0))
    assert phase_of(world) is Phase.CLEANING
    world.run_out(None)
    assert states(world) == {("a", 0): ProcessState.KILLED}
    assert phase_of(world) is Phase.KILLED


def test_a_kill_of_a_start_that_was_lost_on_its_way_does_not_start_it_again() -> None:
    world = launched(spec(A))
    world.lose_line()
    assert list(world.to_hands) == [StartRun("a", 0)]
    world.lose_line()
    world.to_hands.clear()
    world.restart()
    world.ends.append(Request(Cause.KILL, grace=5.0))
    world.hello()
    assert list(world.to_hands) == [Terminate(BOOT + 5.0)]
    # Not over before the hands have answered: the start may still be on its way.
    world.take(Request(Cause.KILL, seq=2, grace=4.0))
    assert phase_of(world) is Phase.CLEANING
    world.settle()
    assert phase_of(world) is Phase.KILLED
    assert world.started == []


def test_hands_that_never_answer_do_not_hold_up_a_task_that_has_nothing() -> None:
    world = launched(spec(A))
    world.to_hands.clear()
    world.restart()
    world.take(HandsSeen((), 0, hello=True), Request(Cause.KILL, grace=5.0))
    wakeup = next_wakeup(world.state)
    assert wakeup is not None
    world.now = wakeup
    world.take(Tick())
    assert phase_of(world) is Phase.KILLED


def test_a_second_kill_shortens_and_counts_from_the_first() -> None:
    world = running(spec(A))
    world.end(Request(Cause.KILL, seq=1, grace=20.0))
    world.now += 2
    world.end(Request(Cause.SHUTDOWN, seq=2, grace=5.0))
    world.end(Request(Cause.SHUTDOWN, seq=3, grace=90.0))
    while world.to_hands:
        world.hear()
    assert world.terminates == [BOOT + 20.0, BOOT + 5.0]
    world.settle(DONE)
    assert (world.state.phase, world.state.cause) == (Phase.KILLED, Cause.KILL)


def test_a_kill_while_a_natural_end_is_cleaning_up_shortens_it_and_keeps_its_verdict() -> None:
    world = running(spec(A, proc("e", ephemeral=True)))
    world.exit(("a", 0), DONE)
    world.deliver()
    assert phase_of(world) is Phase.CLEANING
    world.now += 1
    world.end(Request(Cause.KILL, grace=2.0))
    while world.to_hands:
        world.hear()
    assert world.terminates == [BOOT + 30.0, BOOT + 3.0]
    world.settle(Exit(signal=15))
    assert (world.state.phase, world.state.cause) == (Phase.SUCCESS, Cause.PLAN)


def test_a_kill_while_finalizing_shortens_it_and_keeps_the_verdict() -> None:
    world = running(spec(A, F))
    world.exit(("a", 0), Exit(code=1))
    world.settle()
    assert phase_of(world) is Phase.FINALIZING
    world.end(Request(Cause.KILL, grace=2.0))
    world.settle()
    assert world.terminates == []
    world.pass_time(2.0)
    world.settle()
    assert world.terminates == [0.0]
    assert (world.state.phase, world.state.cause) == (Phase.FAILED, Cause.PLAN)


def test_a_kill_of_zero_seconds_kills_finalizers_at_once() -> None:
    world = running(spec(A, F))
    world.exit(("a", 0), DONE)
    world.settle()
    world.end(Request(Cause.SHUTDOWN, grace=0.0))
    assert list(world.to_hands) == [Terminate(0.0)]
    world.settle()
    assert phase_of(world) is Phase.SUCCESS


def test_the_failed_process_limit_fails_the_task_and_ends_the_others() -> None:
    world = running(spec(A, proc("b"), proc("c"), max_failures=2))
    world.exit(("a", 0), Exit(code=1))
    world.settle()
    assert phase_of(world) is Phase.ACTIVE
    world.exit(("b", 0), Exit(code=2))
    world.settle()
    assert world.terminates == [BOOT + 30.0]
    assert world.state.message == (
        "process 'a' failed: exit code 1 (run 1 of at most 1); process 'b' failed: exit code 2 (run 1 of at most 1)"
    )
    world.settle(Exit(signal=15))
    assert phase_of(world) is Phase.FAILED


def test_a_deadlock_is_a_failure_whatever_the_limit() -> None:
    world = running(spec(A, proc("b"), proc("c"), order="a b c", max_failures=0))
    world.exit(("a", 0), Exit(code=7))
    world.settle()
    assert phase_of(world) is Phase.FAILED
    assert world.state.message == (
        "deadlock: 'b', 'c' can never run, as process 'a' failed: exit code 7 (run 1 of at most 1)"
    )


def test_failures_below_the_limit_are_mentioned_in_a_success() -> None:
    world = running(spec(A, proc("b"), max_failures=0))
    world.exit(("a", 0), Exit(code=7))
    world.exit(("b", 0), DONE)
    world.settle()
    assert phase_of(world) is Phase.SUCCESS
    assert world.state.message.startswith("Task completed, although process 'a' failed: exit code 7")


def test_a_process_that_is_killed_over_and_over_is_given_up() -> None:
    world = launched(spec(A))
    world.settle(Exit(signal=9))
    assert phase_of(world) is Phase.FAILED
    assert world.state.message == "process 'a' failed: signal 9 (given up after 100 runs)"


def test_the_completion_time_ends_a_task_without_grace() -> None:
    world = running(spec(A, F, max_completion=10.0))
    assert next_wakeup(world.state) == BOOT + 10.0
    world.pass_time(10.0)
    world.settle()
    assert (world.state.phase, world.state.cause) == (Phase.FAILED, Cause.COMPLETION_TIME)
    assert world.terminates == [BOOT + 10.0]


def test_the_first_cause_wins_over_an_end_of_the_plan_that_came_with_it() -> None:
    world = running(spec(A))
    world.exit(("a", 0), DONE)
    world.to_runner.clear()
    world.restart()
    world.ends.append(Request(Cause.KILL))
    world.hello()
    assert (world.state.phase, world.state.cause) == (Phase.KILLED, Cause.KILL)


def test_processes_of_a_task_that_is_over_are_killed_without_new_state() -> None:
    world = running(spec(A))
    world.take(Gone("gone"))
    assert phase_of(world) is Phase.LOST
    world.to_hands.clear()
    world.hello()
    assert list(world.to_hands) == [Terminate(0.0)]
    # Told once a connection: the hands go on by themselves.
    world.take(HandsSeen((), 1))
    assert list(world.to_hands) == [Terminate(0.0)]


def test_a_run_that_the_hands_have_no_record_of_is_lost_and_runs_again() -> None:
    world = running(spec(A))
    world.runs.clear()
    world.hello()
    assert states(world) == {("a", 0): ProcessState.LOST, ("a", 1): ProcessState.FORKED}


def test_a_status_that_was_sent_already_overrules_the_plan() -> None:
    world = running(spec(A))
    world.runs.clear()
    world.take(Overruled(Phase.KILLED, "sent"))
    assert phase_of(world) is Phase.KILLED


def test_nothing_new_is_started_while_the_journal_takes_no_records() -> None:
    world = running(spec(A, proc("b"), order="a b"))
    world.take(Resumed(may_start=False))
    world.exit(("a", 0), DONE)
    world.deliver()
    assert list(world.to_hands) == []
    assert next_wakeup(world.state) is None
    world.take(Resumed(may_start=True))
    assert list(world.to_hands) == [StartRun("b", 0)]


def test_an_exit_that_nobody_saw_is_lost_and_not_success() -> None:
    world = running(spec(A))
    world.take(HandsSeen([HandsRun("a", 0, HandsState.EXITED)], 0))
    assert states(world)[("a", 0)] is ProcessState.LOST
    assert phase_of(world) is Phase.ACTIVE


def test_rubbish_from_the_hands_changes_nothing() -> None:
    world = running(spec(A))
    rubbish = [HandsRun("zz", 0, HandsState.EXITED), HandsRun("a", 0, 99), HandsRun("a", 0, HandsState.FORKED)]
    assert world.take(HandsSeen(rubbish, 1)).records == []


def test_a_newer_run_than_ours_is_taken_over_and_ours_is_lost() -> None:
    world = running(spec(A))
    world.take(HandsSeen([HandsRun("a", 7, HandsState.RUNNING)], 1))
    assert states(world) == {("a", 0): ProcessState.LOST, ("a", 7): ProcessState.RUNNING}


def test_a_decision_reads_no_clock() -> None:
    worlds = [running(spec(A, F)) for _ in range(2)]
    first, second = (decide(w.state, [Request(Cause.KILL)], w.moment()) for w in worlds)
    assert first == second


def test_a_message_is_one_line_of_bounded_length() -> None:
    world = running(spec(A))
    world.end(Request(Cause.UNHEALTHY, message="check\nfailed:\t\x1b[31m " + "x" * 5000))
    assert world.state.message.startswith("check failed: [31m xxx")
    assert len(world.state.message) == 1000
