"""The machine of one check: schedule, pauses, restarts. Time is a number here."""

from __future__ import annotations

import dataclasses
import math

import pytest

from services.health import checks
from services.health.interpret import Meaning, Reading
from services.health.model import (
    Action,
    Attached,
    Check,
    Detached,
    Ending,
    Event,
    Note,
    Phase,
    Plan,
    Remembered,
    Result,
    Save,
    SendProbe,
    SendVerdict,
    Started,
    Tick,
)
from services.health.records import decode_state, encode_state
from services.health.rules import Limits, Memory

T0 = 1000.0
OK = Reading(Meaning.SUCCESS, "passed")
BAD = Reading(Meaning.FAILURE, "failed")
GONE = Reading(Meaning.TRANSIENT, "could not be made")


class Play:
    """Drives one check and keeps what it asked for."""

    def __init__(self, limits: Limits | None = None, timeout: float = 1.0, now: float = T0) -> None:
        self.plan = Plan(limits or Limits(15, 10, 0, 1), timeout)
        self.check = checks.new("aurora-time")
        self.now = now
        self.actions: list[Action] = []

    def do(self, event: Event, now: float | None = None) -> tuple[Action, ...]:
        self.now = self.now if now is None else now
        self.check, actions = checks.step(self.check, self.plan, event, self.now)
        self.actions += actions
        return actions

    def start(self) -> Play:
        self.do(Attached(0.5))
        self.do(Started())
        return self

    def answer(self, reading: Reading, now: float | None = None, latency: float = 0.0) -> tuple[Action, ...]:
        assert self.check.flight is not None
        return self.do(Result(self.check.flight.id, reading, latency), now)

    def until_probe(self) -> float:
        """Lets time pass until the next probe is sent."""
        assert self.check.flight is None
        wake = checks.wake_at(self.check, self.plan)
        assert wake is not None
        (probe,) = self.do(Tick(), wake)
        assert isinstance(probe, SendProbe)
        return wake

    def restart(self) -> Play:
        """Another service process reads what this one has journalled."""
        self.check = decode_state("aurora-time", encode_state(self.check))
        return self


def kinds(actions: tuple[Action, ...]) -> list[type[Action]]:
    return [type(action) for action in actions]


def test_the_first_check_is_made_at_once_when_the_task_has_started() -> None:
    play = Play()
    assert play.do(Attached(0.5)) == ()
    assert checks.wake_at(play.check, play.plan) is None
    assert kinds(play.do(Started())) == [Save, SendProbe]
    assert play.check.phase is Phase.PROBING


def test_the_interval_runs_from_the_completion_of_a_check_to_the_start_of_the_next() -> None:
    play = Play().start()
    play.answer(OK, T0 + 0.75)
    assert play.do(Tick(), T0 + 10.5) == ()
    assert play.until_probe() == T0 + 10.75


def test_a_verdict_is_journalled_before_it_is_told() -> None:
    assert kinds(Play().start().answer(OK)) == [Save, SendVerdict, Note]


def test_success_after_success_is_journalled_and_not_told() -> None:
    play = Play().start()
    play.answer(OK)
    version = play.check.version
    play.until_probe()
    assert kinds(play.answer(OK)) == [Save, Note]
    assert play.check.version == version
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
    (note,) = play.do(Tick(), T0 + 8)
    assert isinstance(note, Note)
    assert note.reading == Reading(Meaning.TRANSIENT, "no result from the driver within 8 s")
    assert play.check.transients == 1
    assert play.until_probe() == T0 + 18


def test_without_a_timeout_a_result_is_waited_for() -> None:
    play = Play(timeout=0).start()
    assert checks.wake_at(play.check, play.plan) is None
    assert kinds(play.answer(OK, T0 + 14)) == [Save, SendVerdict, Note]


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
    assert checks.wake_at(play.check, play.plan) is None


def test_a_dead_task_is_not_probed_any_more() -> None:
    play = Play(Limits(0, 10, 0, 1)).start()
    assert kinds(play.answer(BAD)) == [Save, SendVerdict, Note]
    assert play.check.phase is Phase.STOPPED
    assert play.do(Detached()) == ()
    assert play.do(Attached(0.5)) == (SendVerdict(),)


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
    assert kinds(play.answer(GONE)) == [Note]
    play.until_probe()
    play.answer(OK)
    assert play.check.rule.successes == 2
    assert play.check.rule.passed


def test_while_no_driver_is_attached_all_timers_stand_still() -> None:
    play = Play().start()
    play.answer(BAD)
    play.do(Detached(), T0 + 4)
    assert checks.wake_at(play.check, play.plan) is None
    assert play.do(Tick(), T0 + 500) == ()
    assert kinds(play.do(Attached(0.5), T0 + 1000)) == [SendVerdict]
    assert play.until_probe() == T0 + 1006
    play.answer(OK)
    assert play.check.elapsed == 10
    assert play.check.rule.passed


def test_a_probe_cut_short_by_a_lost_link_is_transient_and_made_again_soon() -> None:
    play = Play().start()
    (note,) = play.do(Detached(), T0 + 0.5)
    assert isinstance(note, Note)
    assert note.reading.meaning is Meaning.TRANSIENT
    assert play.do(Attached(0.5), T0 + 30) == ()
    assert play.until_probe() == T0 + 31
    play.answer(OK, T0 + 31.25)
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
    play.do(Tick(), T0 + 95)
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


def test_versions_grow_over_a_lost_journal() -> None:
    play = Play().start()
    play.answer(OK)
    version = play.check.version
    other = Play(now=T0 + 1).start()
    other.answer(OK)
    assert other.check.version > version


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
    assert play.restart().do(Attached(0.5), T0 + 4) == (SendVerdict(),)
    assert play.check.rule == verdict
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


def test_the_time_of_a_restart_does_not_run_against_the_initial_interval() -> None:
    play = Play().start()
    play.answer(BAD)
    for number in range(1, 50):
        play.restart().do(Attached(0.5), T0 + 100 * number)
    play.until_probe()
    play.answer(OK)
    assert play.check.elapsed == 0
    assert play.check.rule.passed


def test_a_verdict_that_only_the_driver_remembers_is_adopted() -> None:
    memory = Memory(passed=True, healthy=True, dead=False, failures=0, successes=3)
    play = Play()
    play.do(Remembered(memory, 77, "passed"))
    assert play.do(Started()) == (Save(),)
    assert play.do(Attached(0.5)) == (SendVerdict(),)
    assert play.check.rule.passed
    assert play.check.version > 77
    # It is known to be healthy, so it takes its turn with the others after the restart.
    assert play.until_probe() == T0 + 5


def test_a_death_that_only_the_driver_remembers_is_adopted() -> None:
    play = Play()
    play.do(Remembered(Memory(passed=False, healthy=False, dead=True, failures=1, successes=0), 77, "failed"))
    assert play.check.phase is Phase.STOPPED
    assert play.do(Attached(0.5)) == (SendVerdict(),)


def test_an_older_memory_changes_nothing() -> None:
    play = Play().start()
    play.answer(OK)
    before = play.check
    assert play.do(Remembered(Memory(False, None, False, 3, 0), before.version - 1, "old")) == ()
    assert play.check == before


def test_a_late_first_driver_finds_a_started_task_and_probes_at_once() -> None:
    play = Play()
    assert play.do(Started()) == (Save(),)
    assert kinds(play.do(Attached(0.9))) == [SendProbe]


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


def test_a_restarted_check_keeps_nothing_of_the_old_process() -> None:
    play = Play().start()
    flown = play.restart().check
    assert flown == dataclasses.replace(
        Check(phase=Phase.PROBING, rule=flown.rule, probes=0), remaining=None, probes=flown.probes
    )
