"""The initial interval and the grace period: no restart and no lost link gives anything of them back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.health import checks
from services.health.interpret import Meaning
from services.health.model import Attached, Detached, Event, Phase, Plan, Result, Save, Snooze, Started, Tick
from services.health.rules import Limits
from tests.effort import examples
from tests.unit.health.play import BAD, OK, T0, Play, journalled

RULES = ["aurora-time", "aurora-attempts", "mesos"]


@pytest.mark.parametrize("early", [0.0, 0.5, 5.0, 10.0])
@pytest.mark.parametrize("how", ["restart", "lost link", "lost link and restart"])
def test_a_restart_before_each_due_probe_delays_no_end(how: str, early: float) -> None:
    play = Play(Limits(15, 10, 0, 1)).start()
    for _ in range(10):
        play.answer(BAD)
        if play.check.phase is Phase.STOPPED:
            break
        at = play.now + 10 - early
        if how != "restart":
            play.do(Detached(), at)
        if how != "lost link":
            play.restart(at)
        play.do(Attached(0.5), at)
        if play.check.flight is None:
            play.until_probe()
    assert play.now - T0 <= 20 + 1
    assert play.check.elapsed == 20
    assert play.check.failures == 3


def test_the_delay_before_the_first_probe_runs_against_the_grace_period_over_a_restart() -> None:
    play = Play(Limits(70, 30, 2, 1, delay=60), rule="mesos", gates=False).start()
    play.restart(T0 + 5).do(Attached(0.5), T0 + 6)
    assert play.until_probe() == T0 + 60
    assert play.check.elapsed == 60


def test_a_restart_within_a_delay_longer_than_the_interval_makes_no_early_probe() -> None:
    play = Play(Limits(70, 1, 2, 1, delay=60), rule="mesos", gates=False).start()
    for later in (5, 6, 40):
        assert play.restart(T0 + later).do(Attached(0.0)) == ()
    assert play.until_probe() == T0 + 60


def test_a_delay_without_a_driver_runs_from_the_start_to_its_end_only() -> None:
    play = Play(Limits(70, 30, 2, 1, delay=60), rule="mesos", gates=False).start()
    play.do(Detached(), T0 + 5)
    play.do(Attached(0.1), T0 + 105)
    if play.check.flight is None:
        play.until_probe()
    assert play.now <= T0 + 105 + 30
    assert play.check.elapsed == 60


def test_the_lateness_of_the_probe_that_decides_is_no_fault_of_the_task() -> None:
    """Healthy from its 14th second on: without the restart, the probe at 10 s + 4 s of its own would have passed."""
    play = Play(Limits(15, 10, 0, 1), timeout=10).start()
    play.answer(BAD)
    play.restart(T0 + 9).do(Attached(1.0), T0 + 600)
    assert play.until_probe() == T0 + 601
    play.answer(OK, T0 + 604, latency=3)
    assert play.check.elapsed == 13
    assert play.check.rule.passed


def test_a_wake_while_no_driver_is_attached_gives_nothing_back() -> None:
    play = Play().start()
    play.answer(BAD)
    play.do(Detached(), T0 + 1)
    play.do(Snooze(None), T0 + 4)
    play.do(Attached(0.5), T0 + 90)
    assert play.check.flight is not None
    assert play.check.elapsed == 4


class Life:
    """A check that is probed until it is stopped, with the last record of its journal."""

    def __init__(self, rule: str, plan: Plan, took: float, meaning: Meaning) -> None:
        self.rule, self.plan, self.took = rule, plan, took
        self.reading = BAD if meaning is Meaning.FAILURE else OK
        self.now = T0
        self.check = self.saved = checks.new(rule)
        self.used: list[float] = []
        """`elapsed` after each counted result."""
        self.ended: list[float] = []

    def do(self, event: Event) -> None:
        self.check, actions = checks.step(self.check, self.plan, event, self.now)
        if any(isinstance(action, Save) for action in actions):
            # As the book does it: once the whole step is done.
            self.saved = self.check

    def run(self, until: float) -> None:
        while self.check.phase is Phase.PROBING:
            flight = self.check.flight
            wake = checks.wake_at(self.check) if flight is None else flight.sent_at + self.took
            assert wake is not None
            if max(wake, self.now) > until:
                break
            self.now = max(wake, self.now)
            if flight is None:
                self.do(Tick())
                continue
            self.do(Result(flight.id, self.reading, self.took))
            self.used.append(self.check.elapsed)
            self.ended.append(self.now)
        self.now = max(self.now, until)

    def disturb(self, how: str, down: float, spread: float) -> None:
        if how != "restart":
            self.do(Detached())
        self.now += down / 2
        if how != "lost link":
            self.check = checks.restored(journalled(self.saved, self.rule), self.now)
        self.now += down / 2
        self.do(Attached(spread))


LIMITS = st.builds(
    Limits,
    # No result comes exactly at the end: sums of floats decide there.
    st.sampled_from([15.3, 60.6]),
    st.sampled_from([2.0, 10.0]),
    st.integers(0, 2),
    st.integers(1, 2),
    st.sampled_from([0.0, 25.0]),
)
DISTURBANCES = st.lists(
    st.tuples(
        st.sampled_from(["restart", "lost link", "lost link and restart"]),
        st.floats(0, 30),  # Seconds after the last one.
        st.sampled_from([0.0, 0.01, 0.9, 3.0, 12.0, 400.0]),
        st.floats(0, 1),
    ),
    max_size=12,
)


@settings(max_examples=examples(500), deadline=None)
@given(
    st.sampled_from(RULES),
    LIMITS,
    st.sampled_from([0.0, 0.25, 0.9]),
    st.sampled_from([Meaning.FAILURE, Meaning.SUCCESS]),
    st.booleans(),
    DISTURBANCES,
)
def test_each_result_finds_as_much_used_up_as_without_restarts_and_lost_links(
    rule: str,
    limits: Limits,
    took: float,
    meaning: Meaning,
    gates: bool,
    disturbances: list[tuple[str, float, float, float]],
) -> None:
    plan = Plan(limits, 1.0, gates)
    calm, life = (Life(rule, plan, took, meaning) for _ in range(2))
    for each in (calm, life):
        each.do(Attached(0.5))
        each.do(Started())
    allowed = 0.0
    for how, after, down, spread in disturbances:
        life.run(life.now + after)
        life.disturb(how, down, spread)
        # What was cut short, the outage, and the turn among many.
        allowed += took + down + max(1.0, limits.interval)
    calm.run(T0 + 200)
    life.run(life.now + 200 + allowed)
    assert len(life.used) >= len(calm.used)
    for at in range(len(calm.used)):
        # Neither more, or a restart would end tasks, nor less.
        assert abs(life.used[at] - calm.used[at]) < 1e-6
        assert -1e-6 < life.ended[at] - calm.ended[at] <= allowed + 1e-6
    assert (calm.check.phase is Phase.STOPPED) <= (life.check.rule.dead == calm.check.rule.dead)
