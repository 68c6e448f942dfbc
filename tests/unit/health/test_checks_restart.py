"""The machine of one check: restarts of the service, lost journals, what a driver remembers."""

from __future__ import annotations

from services.health.interpret import Value
from services.health.model import (
    Attached,
    Cause,
    Check,
    Gap,
    Phase,
    Remembered,
    Result,
    Save,
    SendProbe,
    SendVerdict,
    Started,
)
from services.health.rules import Limits, Memory
from tests.unit.health.play import BAD, GONE, OK, T0, Play, kinds


def test_ids_of_probes_are_not_used_again_by_a_later_process() -> None:
    play = Play().start()
    assert play.check.flight is not None
    earlier = play.check.flight.id
    play.restart().do(Attached(0.0), T0 + 2)
    assert play.check.flight is not None
    assert play.check.flight.id > earlier
    assert play.do(Result(earlier, BAD)) == ()


def test_after_a_restart_the_old_verdict_is_told_and_the_schedule_is_kept() -> None:
    play = Play().start()
    play.answer(OK)
    verdict = play.check.rule
    assert play.restart().do(Attached(0.5), T0 + 4) == ()
    assert (play.check.rule, play.check.message) == (verdict, "passed")
    assert play.until_probe() == T0 + 10


def test_after_a_restart_overdue_probes_are_spread_over_one_interval() -> None:
    for jitter in (0.0, 0.25, 1.0):
        play = Play().start()
        play.answer(OK)
        play.restart().do(Attached(jitter), T0 + 100)
        wake = T0 + 100 + 10 * jitter
        assert play.now == wake if play.check.flight else play.until_probe() == wake


def test_after_a_restart_a_task_at_the_gate_waits_at_most_a_second() -> None:
    play = Play().start()
    play.restart().do(Attached(1.0), T0 + 100)
    assert play.until_probe() == T0 + 101


def test_from_when_a_probe_was_due_the_time_of_restarts_does_not_run_against_the_initial_interval() -> None:
    play = Play().start()
    play.answer(BAD)
    for number in range(1, 50):
        play.restart().do(Attached(0.5), T0 + 100 * number)
    play.until_probe()
    play.answer(OK)
    assert play.check.elapsed == 10
    assert play.check.rule.passed


def test_a_verdict_that_only_the_driver_remembers_is_adopted() -> None:
    memory = Memory(passed=True, healthy=True, dead=False, failures=0, successes=3)
    play = Play()
    assert play.do(Remembered(memory, "passed", newer=True)) == (Save(), SendVerdict())
    assert play.do(Started()) == (Save(),)
    assert play.do(Attached(0.5)) == (Save(),)
    assert play.check.rule.passed
    # It is known to be healthy, so it takes its turn with the others after the restart.
    assert play.until_probe() == T0 + 5


def test_a_death_that_only_the_driver_remembers_is_adopted() -> None:
    play = Play()
    play.do(Remembered(Memory(passed=False, healthy=False, dead=True, failures=1, successes=0), "failed", newer=True))
    assert play.check.phase is Phase.STOPPED
    assert play.check.message == "failed"


def test_an_older_memory_changes_nothing() -> None:
    play = Play().start()
    play.answer(OK)
    before = play.check
    assert play.do(Remembered(Memory(False, None, False, 3, 0), "old", newer=False)) == ()
    assert play.check == before


def test_a_late_first_driver_finds_a_started_task_and_probes_at_once() -> None:
    play = Play()
    assert play.do(Started()) == (Save(),)
    assert kinds(play.do(Attached(0.9))) == [SendProbe]


def test_a_restarted_check_keeps_nothing_of_the_old_process() -> None:
    play = Play().start()
    rule = play.check.rule
    gap = Gap(T0 + 5, Cause.DETACHED, "no driver is attached since the service's start")
    play.restart(T0 + 5)
    assert play.check == Check(Phase.PROBING, rule, probes=1, planned=T0, restarted=True, gap=gap)


def test_counters_rows_and_failures_go_on_after_a_restart() -> None:
    play = Play(Limits(0, 10, 3, 1)).start()
    play.answer(OK)
    for _ in range(3):
        play.until_probe()
        play.answer(BAD)
        play.restart().do(Attached(0.5))
    assert (play.check.rule.failures, play.check.failures, play.check.probes) == (3, 3, 4)
    play.until_probe()
    assert kinds(play.answer(BAD)) == [Save, SendVerdict]
    assert play.check.rule.dead


def test_a_probe_that_was_put_off_by_a_restart_is_not_put_off_by_the_next_one() -> None:
    play = Play(Limits(15, 60, 0, 1)).start()
    play.answer(OK)
    assert play.restart().do(Attached(0.5), T0 + 100) == (Save(),)
    for later in (1, 20, 29):
        assert play.restart().do(Attached(0.9), T0 + 100 + later) == ()
    assert play.until_probe() == T0 + 130


def test_a_delay_survives_a_restart() -> None:
    play = Play(Limits(30, 10, 2, 1, delay=15), rule="mesos", gates=False).start()
    play.restart().do(Attached(0.0), T0 + 5)
    assert play.until_probe() == T0 + 15


def test_a_task_that_is_not_gated_waits_its_turn_after_a_restart() -> None:
    play = Play(Limits(30, 10, 2, 1), rule="mesos", gates=False).start()
    play.restart().do(Attached(0.5), T0 + 100)
    assert play.until_probe() == T0 + 105


def test_a_row_of_transients_is_still_known_after_a_restart() -> None:
    play = Play().start()
    play.answer(GONE, T0 + 1)
    play.restart(T0 + 50).do(Attached(0.5))
    assert play.check.gap == Gap(T0, Cause.TRANSIENT, "could not be made")
    assert play.check.transients == 1


def test_a_lost_journal_of_a_check_that_is_only_told_goes_on_with_its_changes() -> None:
    play = Play(rule="check", gates=False)
    value = Value(exit_code=3)
    told = Memory(True, None, False, 0, 0, value=value, changes=7)
    assert play.do(Remembered(told, "exit code 3", newer=False)) == (Save(), SendVerdict())
    assert (play.check.rule.value, play.check.rule.changes, play.check.message) == (value, 7, "exit code 3")
    assert play.do(Remembered(told, "exit code 3", newer=False)) == ()


def test_what_is_worse_than_what_is_known_here_counts_even_if_it_is_not_newer() -> None:
    play = Play(rule="mesos", gates=False).start()
    play.answer(OK)
    reported = Memory(True, True, False, 0, 1, reports=7)
    assert play.do(Remembered(reported, "passed", newer=False)) == (Save(), SendVerdict())
    assert play.check.rule.reports == 7
    assert play.do(Remembered(reported, "passed", newer=False)) == ()
    play.do(Remembered(Memory(True, False, True, 3, 0, reports=7), "failed", newer=False))
    assert play.check.phase is Phase.STOPPED
    assert play.check.rule.dead
