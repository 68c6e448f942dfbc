from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from executor_shim.coordinator.deadlines import ALL, Deadlines

keys = st.sampled_from(["a", "b", ALL])


@given(st.lists(st.tuples(keys, st.floats(0, 100)), max_size=20), st.floats(0, 100))
def test_limit_is_the_earliest_of_own_and_all_in_any_order(sets: list[tuple[str, float]], now: float) -> None:
    deadlines = Deadlines()
    for task, at in sets:
        deadlines.set(task, at)
    for task in ("a", "b", "new"):
        times = [at for key, at in sets if key in (task, ALL)]
        expected = min(times, default=None)
        assert deadlines.limit(task) == expected
        assert deadlines.passed(task, now) == (expected is not None and expected <= now)


@given(st.lists(st.tuples(keys, st.floats(0, 100)), max_size=20), st.lists(st.floats(0, 120), max_size=10))
def test_each_limit_is_reported_once_and_on_time(sets: list[tuple[str, float]], looks: list[float]) -> None:
    deadlines = Deadlines()
    for task, at in sets:
        deadlines.set(task, at)
    seen: list[str] = []
    for now in [*sorted(looks), 200.0]:
        due = deadlines.due()
        reached = deadlines.expire(now)
        assert bool(reached) == (due <= now)
        seen += reached
    assert sorted(seen) == sorted({task for task, _ in sets})
    assert deadlines.due() == float("inf")


def test_forgotten_limit_is_gone_but_that_of_all_stays() -> None:
    deadlines = Deadlines()
    deadlines.set("a", 5)
    deadlines.set(ALL, 50)
    deadlines.expire(10)
    deadlines.forget("a")
    assert deadlines.limit("a") == 50
    assert not deadlines.passed("a", 10)
