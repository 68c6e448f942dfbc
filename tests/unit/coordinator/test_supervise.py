from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from executor_shim.coordinator.supervise import LATE, MAX_DEATHS, WINDOW, Supervisor


def test_silence_is_noticed_once() -> None:
    supervisor = Supervisor(10)
    supervisor.started(0)
    supervisor.beat(4)
    assert not supervisor.frozen(13.9)
    assert supervisor.due() == 14
    assert supervisor.frozen(14)
    assert not supervisor.frozen(15)


def test_own_lateness_gives_the_driver_a_fresh_start() -> None:
    supervisor = Supervisor(10)
    supervisor.started(0)
    supervisor.woke(expected=2, now=2 + LATE + 10)
    assert not supervisor.frozen(17)
    assert supervisor.frozen(2 + LATE + 20)


def test_being_a_little_late_changes_nothing() -> None:
    supervisor = Supervisor(10)
    supervisor.started(0)
    supervisor.woke(expected=8, now=10)
    assert supervisor.frozen(10)


def test_beat_of_a_driver_that_is_being_killed_does_not_revive_it() -> None:
    supervisor = Supervisor(10)
    supervisor.started(0)
    assert supervisor.frozen(10)
    supervisor.beat(11)
    assert supervisor.due() == float("inf")


def test_first_deaths_restart_at_once_then_pauses_grow_to_a_second() -> None:
    supervisor = Supervisor(10)
    pauses = []
    for death in range(MAX_DEATHS - 1):
        now = death * 2.0
        supervisor.started(now)
        assert supervisor.died(now)
        pauses.append(supervisor.start_at - now)
    assert pauses[:3] == [0, 0, 0]
    assert pauses == sorted(pauses)
    assert 0.5 < pauses[-1] <= 1
    assert not supervisor.died(MAX_DEATHS * 2.0)


@given(st.lists(st.floats(0, 20), min_size=1, max_size=60))
def test_gives_up_exactly_when_too_many_deaths_fall_into_the_window(gaps: list[float]) -> None:
    supervisor = Supervisor(10)
    now, deaths = 0.0, []
    for gap in gaps:
        now += gap
        deaths.append(now)
        recent = [death for death in deaths if now - death < WINDOW]
        supervisor.started(now)
        goes_on = supervisor.died(now)
        assert goes_on == (len(recent) < MAX_DEATHS)
        if not goes_on:
            return
        # The sum of the two is rounded, by less than this.
        assert -1e-9 <= supervisor.start_at - now <= 1 + 1e-9
