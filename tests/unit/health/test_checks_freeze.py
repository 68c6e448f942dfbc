"""The machine of one check: this process or a driver stood still, or the host slept."""

from __future__ import annotations

import pytest

from services.health.interpret import Meaning
from services.health.model import Cause, Phase, Save, SendProbe, SendVerdict, Tick
from services.health.rules import Limits
from tests.unit.health.play import BAD, OK, T0, Play, kinds


def test_an_answer_that_waited_while_this_process_was_frozen_is_still_taken() -> None:
    play = Play().start()
    # The timer is the first that is served after a freeze.
    assert play.do(Tick(), T0 + 60) == ()
    assert kinds(play.answer(OK, T0 + 60.1, latency=0.2)) == [Save, SendVerdict]
    assert play.check.rule.passed


def test_after_a_freeze_an_answer_is_not_waited_for_twice() -> None:
    play = Play().start()
    play.do(Tick(), T0 + 60)
    assert play.wake_at() == T0 + 65
    assert kinds(play.do(Tick(), T0 + 90)) == [Save]
    assert play.check.transients == 1


def test_overdue_probes_are_spread_over_as_long_as_the_freeze_was() -> None:
    play = Play(Limits(15, 60, 0, 1)).start()
    play.answer(OK)
    # 4 s late.
    assert play.do(Tick(), T0 + 64) == ()
    assert play.until_probe() == T0 + 66


def test_overdue_probes_are_put_off_by_one_interval_at_most_and_once() -> None:
    play = Play().start()
    play.answer(OK)
    assert play.do(Tick(), T0 + 3600) == ()
    assert play.wake_at() == T0 + 3605
    assert kinds(play.do(Tick(), T0 + 3700)) == [SendProbe]


def test_a_task_at_the_gate_is_put_off_by_a_second_at_most() -> None:
    play = Play().start()
    play.answer(BAD)
    assert play.do(Tick(), T0 + 3600) == ()
    assert play.wake_at() == T0 + 3600.5


@pytest.mark.parametrize("late", [0.0, 0.9])
def test_a_little_lateness_puts_nothing_off(late: float) -> None:
    play = Play().start()
    play.answer(OK)
    assert kinds(play.do(Tick(), T0 + 10 + late)) == [SendProbe]


def test_a_timeout_that_was_measured_by_a_frozen_driver_is_a_transient() -> None:
    play = Play(Limits(0, 10, 0, 1), timeout=1.0).start()
    play.answer(OK)
    play.until_probe()
    assert kinds(play.answer(BAD, play.now + 4, latency=3.9)) == [Save]
    assert play.check.rule.healthy
    assert play.check.gap is not None
    assert play.check.gap.cause is Cause.TRANSIENT
    assert play.check.gap.detail == "failed (after 3.9 s: the driver was frozen)"


@pytest.mark.parametrize("latency", [1.0, 1.5, 2.0])
def test_a_timeout_that_was_measured_a_little_late_counts_at_once(latency: float) -> None:
    play = Play(Limits(0, 10, 0, 1), timeout=1.0).start()
    play.answer(OK)
    play.until_probe()
    assert kinds(play.answer(BAD, play.now + latency, latency=latency)) == [Save, SendVerdict]
    assert play.check.rule.dead
    assert play.check.transients == 0


def test_what_is_late_every_time_is_the_tasks_doing() -> None:
    play = Play(Limits(0, 10, 1, 1), timeout=1.0).start()
    play.answer(OK)
    for _ in range(3):
        play.until_probe()
        play.answer(BAD, play.now + 4, latency=3.9)
    assert play.check.transients == 1
    assert play.check.rule.dead
    assert play.check.phase is Phase.STOPPED


def test_an_answer_in_time_ends_the_doubt() -> None:
    play = Play(Limits(0, 10, 9, 1), timeout=1.0).start()
    for latency in (0.1, 3.9, 1.0, 3.9, 3.9, 0.1, 3.9):
        play.answer(BAD if latency >= 1 else OK, play.now, latency=latency)
        play.until_probe()
    assert (play.check.transients, play.check.failures) == (3, 2)


def test_a_success_is_believed_however_late() -> None:
    play = Play(timeout=1.0).start()
    (save, _) = play.answer(OK, T0 + 4, latency=3.9)
    assert isinstance(save, Save)
    assert save.noted is not None
    assert save.noted.reading.meaning is Meaning.SUCCESS
