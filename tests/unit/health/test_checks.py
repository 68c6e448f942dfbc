"""The machine of one check: its schedule and its pauses. Time is a number here."""

from __future__ import annotations

import math

import pytest

from services.health import checks
from services.health.interpret import Meaning, Reading
from services.health.model import (
    Attached,
    Detached,
    Ending,
    Event,
    Phase,
    Remembered,
    Result,
    Save,
    SendProbe,
    SendVerdict,
    Snooze,
    Started,
    Tick,
)
from services.health.rules import Limits, Memory
from tests.unit.health.play import BAD, GONE, OK, T0, Play, kinds


def test_the_first_check_is_made_at_once_when_the_task_has_started() -> None:
    play = Play()
    assert play.do(Attached(0.5)) == ()
    assert play.wake_at() is None
    assert kinds(play.do(Started())) == [Save, SendProbe]
    assert play.check.phase is Phase.PROBING


def test_the_interval_runs_from_the_completion_of_a_check_to_the_start_of_the_next() -> None:
    play = Play().start()
    play.answer(OK, T0 + 0.75)
    assert play.do(Tick(), T0 + 10.5) == ()
    assert play.until_probe() == T0 + 10.75


def test_a_verdict_is_journalled_before_it_is_told() -> None:
    assert kinds(Play().start().answer(OK)) == [Save, SendVerdict]


def test_success_after_success_is_journalled_and_not_told() -> None:
    play = Play().start()
    play.answer(OK)
    play.until_probe()
    assert kinds(play.answer(OK)) == [Save]
    assert play.check.rule.successes == 2


def test_one_probe_is_under_way_at_a_time() -> None:
    play = Play().start()
    for event in (Started(), Tick(), Tick(), Started()):
        assert play.do(event, play.now + 1) == ()


def test_late_double_and_unknown_results_change_nothing() -> None:
    play = Play().start()
    assert play.check.flight is not None
    probe_id = play.check.flight.id
    play.answer(OK)
    before = play.check
    for wrong in (probe_id, probe_id + 1, 0):
        assert play.do(Result(wrong, BAD), T0 + 5) == ()
    assert play.check == before


def test_a_probe_without_result_is_transient_when_timeout_and_5_s_are_over() -> None:
    play = Play(timeout=3).start()
    assert play.do(Tick(), T0 + 7.9) == ()
    (save,) = play.do(Tick(), T0 + 8)
    assert isinstance(save, Save)
    assert save.noted is not None
    assert save.noted.reading == Reading(Meaning.TRANSIENT, "no result from the driver within 8 s")
    assert play.check.transients == 1
    assert play.until_probe() == T0 + 18


def test_without_a_timeout_a_result_is_waited_for() -> None:
    play = Play(timeout=0).start()
    assert play.wake_at() is None
    assert kinds(play.answer(OK, T0 + 14)) == [Save, SendVerdict]


@pytest.mark.parametrize("phase", [Phase.IDLE, Phase.PROBING])
def test_an_ending_task_is_not_probed_and_its_verdict_stands(phase: Phase) -> None:
    play = Play()
    play.do(Attached(0.5))
    if phase is Phase.PROBING:
        play.do(Started())
        play.answer(OK)
        play.until_probe()
    flight, verdict = play.check.flight, play.check.rule
    assert play.do(Ending()) == (Save(),)
    late: list[Event] = [Started(), Tick(), Ending()]
    if flight:
        late.append(Result(flight.id, BAD))
    for event in late:
        assert play.do(event, play.now + 30) == ()
    assert play.check.phase is Phase.STOPPED
    assert play.check.rule == verdict
    assert play.wake_at() is None


def test_a_dead_task_is_not_probed_any_more() -> None:
    play = Play(Limits(0, 10, 0, 1)).start()
    assert kinds(play.answer(BAD)) == [Save, SendVerdict]
    assert play.check.phase is Phase.STOPPED
    assert play.do(Detached()) == ()
    assert play.do(Attached(0.5)) == ()
    assert play.wake_at() is None


def test_transient_attempts_do_not_run_against_the_initial_interval() -> None:
    play = Play().start()
    play.answer(BAD)  # 0 s
    play.until_probe()
    for _ in range(20):
        play.answer(GONE, play.now + 2)
        play.until_probe()
    assert play.answer(OK)[1] == SendVerdict()
    assert play.check.rule.passed
    assert play.check.elapsed == 10
    assert (play.check.probes, play.check.failures, play.check.transients) == (22, 1, 20)


def test_a_transient_attempt_breaks_no_row() -> None:
    play = Play(Limits(15, 10, 1, 2)).start()
    play.answer(OK)
    play.until_probe()
    assert kinds(play.answer(GONE)) == [Save]
    play.until_probe()
    play.answer(OK)
    assert play.check.rule.successes == 2
    assert play.check.rule.passed


def test_while_no_driver_is_attached_only_the_wait_until_the_next_probe_was_due_runs() -> None:
    play = Play().start()
    play.answer(BAD)
    play.do(Detached(), T0 + 4)
    assert play.wake_at() is None
    assert play.do(Tick(), T0 + 500) == ()
    assert play.do(Attached(0.5), T0 + 1000) == ()
    assert play.until_probe() == T0 + 1000.5
    play.answer(OK)
    assert play.check.elapsed == 10
    assert play.check.rule.passed


def test_a_probe_cut_short_by_a_lost_link_is_transient_and_made_again_soon() -> None:
    play = Play().start()
    (save,) = play.do(Detached(), T0 + 0.5)
    assert isinstance(save, Save)
    assert save.noted is not None
    assert save.noted.reading.meaning is Meaning.TRANSIENT
    assert play.do(Attached(0.5), T0 + 30) == ()
    assert play.until_probe() == T0 + 30.5
    play.answer(OK, T0 + 30.75)
    assert play.check.elapsed == 0.25


def test_a_flapping_link_makes_no_burst_of_probes() -> None:
    play = Play().start()
    for number in range(100):
        play.do(Detached(), T0 + number * 0.1)
        play.do(Attached(0.0))
    # 10 s long: one a second.
    assert play.check.probes == 10


def test_lateness_of_the_service_does_not_run_against_the_initial_interval() -> None:
    play = Play().start()
    play.answer(BAD)
    # Frozen from 5 s to 95 s.
    assert play.do(Tick(), T0 + 95) == ()
    assert play.until_probe() == T0 + 95.5
    play.answer(OK)
    assert play.check.elapsed == 10
    assert play.check.rule.passed


def test_an_answer_that_waited_for_a_frozen_service_counts_with_the_drivers_latency() -> None:
    play = Play().start()
    play.answer(OK, T0 + 60, latency=0.25)
    assert play.check.elapsed == 0.25
    assert play.check.rule.passed


@pytest.mark.parametrize("latency", [0.0, -1.0, math.nan, math.inf, 1e9])
def test_an_absurd_latency_is_replaced_by_what_was_seen_here(latency: float) -> None:
    play = Play().start()
    play.answer(OK, T0 + 3, latency=latency)
    assert play.check.elapsed == 3


def test_the_first_check_that_completes_after_expiry_decides() -> None:
    play = Play(timeout=30).start()
    play.answer(OK, T0 + 15.5)
    assert play.check.rule.dead
    assert not play.check.rule.passed


def test_every_pair_of_phase_and_event_is_decided() -> None:
    undecided = {
        (phase, event.__name__)
        for phase in Phase
        for event in (Attached, Detached, Started, Ending, Result, Tick, Remembered)
        if (phase, event) not in checks.TRANSITIONS
    }
    assert undecided == {
        (Phase.IDLE, "Result"),
        (Phase.IDLE, "Tick"),
        (Phase.PROBING, "Started"),
        (Phase.STOPPED, "Started"),
        (Phase.STOPPED, "Ending"),
        (Phase.STOPPED, "Result"),
        (Phase.STOPPED, "Tick"),
        (Phase.STOPPED, "Remembered"),
    }


def test_the_first_probe_is_made_when_the_delay_is_over() -> None:
    play = Play(Limits(30, 10, 2, 1, delay=15), rule="mesos", gates=False)
    play.do(Attached(0.5))
    assert play.do(Started()) == (Save(),)
    assert play.do(Tick(), T0 + 14.9) == ()
    assert play.until_probe() == T0 + 15
    # The grace period includes the delay.
    play.answer(BAD, T0 + 16)
    assert play.check.elapsed == 16


def test_a_rule_that_counts_attempts_ends_the_task_instead_of_another_probe() -> None:
    # Two forgiven, one that has to succeed; with one attempt left the rule waits for it.
    play = Play(Limits(20, 10, 2, 2), rule="aurora-attempts").start()
    for reading in (BAD, BAD, BAD, BAD, OK):
        play.answer(reading, play.now)
        play.until_probe()
    play.answer(BAD)
    assert not play.check.rule.dead
    wake = play.wake_at()
    assert wake is not None
    assert play.do(Tick(), wake) == (Save(), SendVerdict())
    assert play.check.phase is Phase.STOPPED
    assert play.check.rule.dead
    assert "not enough successful health checks in time" in play.check.message
    assert play.check.probes == 6


def test_transients_are_no_attempts() -> None:
    play = Play(Limits(20, 10, 0, 1), rule="aurora-attempts").start()
    for _ in range(20):
        play.answer(GONE)
        play.until_probe()
    play.answer(OK)
    assert play.check.rule.passed


@pytest.mark.parametrize(
    "event", [Snooze(T0 + 99), Snooze(None), Remembered(Memory(True, True, False, 0, 1), "", newer=True)]
)
def test_a_stopped_check_is_left_alone(event: Event) -> None:
    play = Play().start()
    play.do(Ending())
    before = play.check
    assert play.do(event) == ()
    assert play.check == before
