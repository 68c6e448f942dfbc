from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from executor_shim.coordinator.kills import AGAIN, GONE, KILL, LOOK, STUCK, STUCK_AFTER, TERM, Kills


def test_polite_end() -> None:
    kills = Kills()
    kills.terminate("t", 30, now=0)
    assert kills.in_grace("t")
    assert kills.take_due(0) == [("t", TERM)]
    assert kills.looked("t", found=2, alive=1, now=0) == ""
    # While own children live there is nothing to do but wait for them.
    assert kills.due() == 30
    assert kills.take_due(29) == []
    kills.poke("t", 1)
    assert kills.take_due(1) == [("t", LOOK)]
    assert kills.looked("t", found=0, alive=0, now=1) == AGAIN
    assert kills.take_due(1) == [("t", LOOK)]
    assert kills.looked("t", found=0, alive=0, now=1) == GONE
    assert "t" not in kills
    assert kills.due() == float("inf")


def test_limit_reached_turns_term_into_kill_with_no_way_back() -> None:
    kills = Kills()
    kills.terminate("t", 30, now=0)
    kills.take_due(0)
    kills.looked("t", found=1, alive=1, now=0)
    assert kills.take_due(30) == [("t", KILL)]
    assert kills.killing("t")
    kills.looked("t", found=1, alive=1, now=30)
    kills.terminate("t", 99, now=31)
    assert kills.killing("t")
    assert kills.take_due(31) == [("t", KILL)]


def test_limit_in_the_past_kills_without_term() -> None:
    kills = Kills()
    kills.terminate("t", 0, now=0)
    assert kills.take_due(0) == [("t", KILL)]


def test_new_limit_replaces_the_old_one_and_terms_again() -> None:
    kills = Kills()
    kills.terminate("t", 10, now=0)
    kills.take_due(0)
    kills.looked("t", found=1, alive=1, now=0)
    kills.terminate("t", 20, now=5)
    assert kills.take_due(5) == [("t", TERM)]
    kills.looked("t", found=1, alive=1, now=5)
    assert kills.take_due(10) == []
    assert kills.take_due(20) == [("t", KILL)]


def test_processes_elsewhere_are_looked_for_although_nobody_announces_their_end() -> None:
    kills = Kills()
    kills.terminate("t", 100, now=0)
    kills.take_due(0)
    kills.looked("t", found=1, alive=0, now=0)
    assert 0 < kills.due() < 1


def test_empty_look_must_be_repeated_after_something_was_seen() -> None:
    kills = Kills()
    kills.kill("t", 0)
    assert kills.looked("t", found=0, alive=0, now=0) == AGAIN
    assert kills.looked("t", found=1, alive=0, now=0) == ""
    assert kills.looked("t", found=0, alive=0, now=1) == AGAIN
    assert kills.looked("t", found=0, alive=0, now=1) == GONE


def test_own_child_that_no_scan_shows_still_counts() -> None:
    kills = Kills()
    kills.kill("t", 0)
    assert kills.looked("t", found=0, alive=1, now=0) == ""
    assert "t" in kills


def test_stuck_is_said_once_and_killing_goes_on() -> None:
    kills = Kills()
    kills.kill("t", 0)
    said = []
    now = 0.0
    while now < 3 * STUCK_AFTER:
        assert kills.take_due(now) == [("t", KILL)]
        said.append((kills.looked("t", found=1, alive=1, now=now), now))
        now = kills.due()
    assert next(at for outcome, at in said if outcome == STUCK) >= STUCK_AFTER
    assert sum(outcome == STUCK for outcome, _ in said) == 1
    assert len(said) < 100


def test_what_multiplies_is_looked_at_without_growing_pauses() -> None:
    kills = Kills()
    kills.kill("t", 0)
    for step in range(20):
        kills.looked("t", found=5, alive=5, now=step, fresh=True)
        assert kills.due() - step < 0.01


commands = st.lists(
    st.one_of(
        st.tuples(st.just("terminate"), st.floats(0, 50)),
        st.tuples(st.just("kill"), st.just(0.0)),
        st.tuples(st.just("poke"), st.just(0.0)),
        st.tuples(st.just("pass"), st.floats(0, 20)),
    ),
    max_size=30,
)


@given(commands, st.integers(0, 60))
def test_nothing_outlives_the_smallest_standing_limit_unkilled(steps: list[tuple[str, float]], dies_after: int) -> None:
    """However commands fall, once the limit is reached every action is KILL, and the end is GONE."""
    kills = Kills()
    now = 0.0
    limit: float | None = None
    for step, value in steps:
        if step == "terminate":
            if limit is None or limit > now:
                limit = max(now, now + value)
            kills.terminate("t", now + value, now)
        elif step == "kill":
            limit = min(now, limit) if limit is not None else now
            kills.kill("t", now)
        elif step == "poke":
            kills.poke("t", now)
        else:
            now += value
        for _, action in kills.take_due(now):
            assert limit is not None
            assert (action == KILL) == (limit <= now)
            kills.looked("t", found=1, alive=1, now=now)
    if limit is None:
        assert "t" not in kills
        return
    looks = 0
    while "t" in kills:
        now = max(now, kills.due())
        for _ in kills.take_due(now):
            left = int(looks < dies_after)
            looks += 1
            kills.looked("t", found=left, alive=left, now=now)
    assert kills.due() == float("inf")


def test_what_starts_when_nothing_is_left_is_not_ended_with_the_old() -> None:
    kills = Kills()
    kills.terminate("t", 100.0, 1.0)
    kills.make_way("t")
    assert "t" not in kills
    kills.kill("t", 1.0)
    kills.make_way("t")
    assert kills.killing("t")
