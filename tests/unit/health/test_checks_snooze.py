"""The machine of one check: snoozed by an operator, or by a file in the sandbox."""

from __future__ import annotations

import pytest

from services.health.model import (
    Attached,
    Cause,
    Detached,
    Ending,
    Gap,
    Phase,
    Result,
    Save,
    SendProbe,
    Snooze,
    Started,
    Tick,
)
from services.health.rules import Limits
from tests.unit.health.play import BAD, OK, SNOOZED, T0, Play, kinds


def test_a_snoozed_check_is_not_probed_until_the_time_is_over() -> None:
    play = Play().start()
    play.answer(OK)
    assert play.do(Snooze(T0 + 35), T0 + 2) == (Save(),)
    assert play.check.gap == Gap(T0 + 2, Cause.SNOOZED, "snoozed")
    assert play.do(Tick(), T0 + 34.9) == ()
    assert play.until_probe() == T0 + 35
    assert play.check.snoozed_until is None
    play.answer(OK)
    assert play.check.gap is None


def test_a_snooze_that_is_over_before_the_next_probe_changes_no_schedule() -> None:
    play = Play().start()
    play.answer(OK)
    play.do(Snooze(T0 + 5), T0 + 1)
    assert play.until_probe() == T0 + 10


def test_snoozing_again_replaces_the_time_and_0_probes_at_once() -> None:
    play = Play().start()
    play.answer(OK)
    play.do(Snooze(T0 + 3600), T0 + 1)
    play.do(Snooze(T0 + 100), T0 + 2)
    assert play.wake_at() == T0 + 100
    assert kinds(play.do(Snooze(None), T0 + 50)) == [Save, SendProbe]
    assert play.check.snoozed_until is None


def test_waking_one_that_is_awake_makes_a_probe_and_no_second_one() -> None:
    play = Play().start()
    play.answer(OK)
    assert kinds(play.do(Snooze(None), T0 + 1)) == [Save, SendProbe]
    assert kinds(play.do(Snooze(None), T0 + 2)) == [Save]


@pytest.mark.parametrize("reading", [OK, BAD])
def test_what_was_under_way_when_it_was_snoozed_is_not_counted(reading: object) -> None:
    play = Play(Limits(0, 10, 0, 1)).start()
    assert play.check.flight is not None
    probe_id, rule = play.check.flight.id, play.check.rule
    play.do(Snooze(T0 + 60), T0 + 0.5)
    assert play.do(Result(probe_id, BAD), T0 + 1) == ()
    assert play.check.rule == rule
    assert play.until_probe() == T0 + 60


def test_after_a_short_snooze_of_one_under_way_the_next_probe_is_an_interval_later() -> None:
    play = Play().start()
    assert play.check.flight is not None
    play.do(Snooze(T0 + 2), T0 + 0.5)
    assert play.until_probe() == T0 + 10.5


def test_the_initial_interval_stands_still_while_snoozed() -> None:
    play = Play().start()
    play.answer(BAD)
    play.do(Snooze(T0 + 500), T0 + 4)
    play.until_probe()
    play.answer(OK, T0 + 500.5)
    assert play.check.elapsed == 4.5
    assert play.check.rule.passed


def test_a_snoozed_task_that_has_not_passed_has_not_passed_afterwards() -> None:
    play = Play()
    play.do(Attached(0.5))
    play.do(Snooze(T0 + 100))
    assert play.do(Started()) == (Save(),)
    assert play.until_probe() == T0 + 100
    assert not play.check.rule.passed
    play.answer(OK)
    assert play.check.rule.passed


def test_snoozed_before_the_start_and_woken_again() -> None:
    play = Play()
    play.do(Attached(0.5))
    play.do(Snooze(T0 + 100))
    play.do(Snooze(None))
    assert kinds(play.do(Started())) == [Save, SendProbe]


def test_a_snooze_outlives_restarts_and_lost_links() -> None:
    play = Play().start()
    play.answer(OK)
    play.do(Snooze(T0 + 600), T0 + 1)
    for number in range(1, 6):
        play.restart(T0 + 60 * number).do(Attached(0.5))
        play.do(Detached(), T0 + 60 * number + 10)
        play.do(Attached(0.5), T0 + 60 * number + 20)
        assert play.wake_at() == T0 + 600
    assert play.until_probe() == T0 + 600


def test_a_snooze_that_is_over_while_the_service_is_down_is_over() -> None:
    play = Play().start()
    play.answer(OK)
    play.do(Snooze(T0 + 60), T0 + 1)
    play.restart(T0 + 100).do(Attached(0.5))
    assert play.check.snoozed_until is None
    assert play.until_probe() == T0 + 105


def test_snoozed_and_woken_while_no_driver_is_attached() -> None:
    play = Play().start()
    play.answer(OK)
    play.do(Detached(), T0 + 1)
    assert play.do(Snooze(T0 + 600), T0 + 2) == (Save(),)
    assert play.do(Attached(0.5), T0 + 50) == ()
    assert play.check.gap == Gap(T0 + 1, Cause.SNOOZED, "snoozed")
    assert play.wake_at() == T0 + 600
    play.do(Detached(), T0 + 60)
    assert play.do(Snooze(None), T0 + 70) == (Save(),)
    assert kinds(play.do(Attached(0.5), T0 + 80)) == [SendProbe]


def test_a_snoozed_task_that_ends_is_over() -> None:
    play = Play().start()
    play.do(Snooze(T0 + 60), T0 + 1)
    play.do(Ending())
    assert play.check.phase is Phase.STOPPED
    assert (play.check.snoozed_until, play.check.gap, play.wake_at()) == (None, None, None)


def test_the_snooze_file_counts_neither_way() -> None:
    play = Play(Limits(15, 10, 0, 2)).start()
    play.answer(OK)
    for _ in range(10):
        play.until_probe()
        (save,) = play.answer(SNOOZED)
        assert isinstance(save, Save)
        assert save.noted is not None
        assert save.noted.reading == SNOOZED
    assert play.check.gap == Gap(T0 + 10, Cause.SNOOZED, "the snooze file is there")
    assert (play.check.snoozes, play.check.transients, play.check.failures) == (10, 0, 0)
    assert not play.check.rule.passed
    play.until_probe()
    play.answer(OK)
    assert play.check.rule.passed
    assert play.check.gap is None
    assert play.check.elapsed == 10


def test_the_snooze_file_resets_no_row_of_failures() -> None:
    play = Play(Limits(0, 10, 1, 1)).start()
    for reading in (OK, BAD, SNOOZED, BAD):
        play.answer(reading)
        if play.check.phase is Phase.PROBING:
            play.until_probe()
    assert play.check.rule.dead


def test_a_snooze_that_is_over_is_over_before_its_first_result_is_there() -> None:
    play = Play().start()
    play.answer(OK)
    play.do(Snooze(T0 + 35), T0 + 2)
    assert play.until_probe() == T0 + 35
    assert play.check.gap is None
    play.answer(SNOOZED)
    assert play.check.gap is not None
    # Only an attempt can tell that the file is gone.
    play.until_probe()
    assert play.check.gap is not None
    play.answer(OK)
    play.do(Snooze(T0 + 3600), T0 + 60)
    play.do(Snooze(None), T0 + 61)
    assert play.check.gap is None


def test_who_is_woken_while_nobody_can_probe_is_not_snoozed_any_more() -> None:
    play = Play().start()
    play.answer(OK)
    play.do(Snooze(T0 + 3600), T0 + 2)
    play.do(Detached(), T0 + 3)
    play.do(Snooze(None), T0 + 4)
    assert play.check.gap == Gap(T0 + 2, Cause.DETACHED, "no driver is attached")
    assert play.do(Attached(0.0), T0 + 5)
    assert play.check.gap is None
