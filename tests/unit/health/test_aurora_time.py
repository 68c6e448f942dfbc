"""The time-based rule, row by row and against a model that looks at whole histories."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.health.rules import RULES, Limits, Memory
from services.health.rules.aurora_time import COUNTS, TRANSITIONS, Stage, State, Timing

DEFAULTS = Limits(initial_interval=15, interval=10, max_failures=0, min_successes=1)
OK, BAD = True, False


def play(limits: Limits, *results: tuple[float, bool]) -> State:
    state = State()
    for elapsed, success in results:
        state = state.count(limits, success=success, elapsed=elapsed)
    return state


def limits(initial: float = 15, max_failures: int = 0, min_successes: int = 1) -> Limits:
    return Limits(initial, 10, max_failures, min_successes)


# (row of the reference, limits, results, passed, healthy, dead)
ROWS = [
    ("no result: no opinion", limits(), [], False, None, False),
    ("healthy at once: passed", limits(), [(0.1, OK)], True, True, False),
    ("before expiry a failure is tolerated", limits(), [(0.1, BAD)], False, None, False),
    (
        "before expiry any number of failures is tolerated",
        limits(60),
        [(t, BAD) for t in range(50)],
        False,
        None,
        False,
    ),
    ("a failure within the interval, then success: passed", limits(), [(0.1, BAD), (10.2, OK)], True, True, False),
    ("completion exactly at expiry is in time", limits(), [(15.0, OK)], True, True, False),
    ("the first check completing after expiry fails it even as a success", limits(), [(15.1, OK)], False, False, True),
    ("never healthy: dead at the check near 20 s", limits(), [(0, BAD), (10, BAD), (20, BAD)], False, False, True),
    ("healthy from 12 s on: dead at 20 s", limits(), [(0, BAD), (10, BAD), (20, OK)], False, False, True),
    ("too few successes within the interval", limits(15, 0, 3), [(0, OK), (10, OK), (20, OK)], False, False, True),
    ("enough successes within the interval", limits(15, 0, 2), [(0, OK), (10, OK)], True, True, False),
    ("successes have to be consecutive", limits(25, 0, 2), [(0, OK), (10, BAD), (20, OK)], False, None, False),
    ("passed is latched within the interval", limits(25), [(0, OK), (10, BAD), (20, BAD)], True, True, False),
    ("failures of the interval carry over", limits(15, 1), [(0, OK), (10, BAD), (20, BAD)], True, False, True),
    ("a success at the first late check resets", limits(15, 1), [(0, OK), (10, BAD), (20, OK)], True, True, False),
    ("the default allows no failure after expiry", limits(), [(0, OK), (20, BAD)], True, False, True),
    ("up to the maximum failures are allowed", limits(15, 2), [(0, OK), (20, BAD), (30, BAD)], True, False, False),
    ("more than the maximum is dead", limits(15, 1), [(0, OK), (20, BAD), (30, BAD)], True, False, True),
    ("healthy again after an allowed failure", limits(15, 1), [(0, OK), (20, BAD), (30, OK)], True, True, False),
    ("dead is latched", limits(), [(20, BAD), (30, OK), (40, OK)], False, False, True),
    ("initial interval 0: the first success passes", limits(0), [(0.2, OK)], True, True, False),
    ("initial interval 0: one success decides", limits(0, 0, 3), [(0.2, OK)], True, True, False),
    ("initial interval 0: the first failure is the end", limits(0, 5), [(0.2, BAD)], False, False, True),
    ("initial interval 0: later failures are counted", limits(0, 1), [(0, OK), (10, BAD)], True, False, False),
]


@pytest.mark.parametrize(("row", "numbers", "results", "passed", "healthy", "dead"), ROWS, ids=[row[0] for row in ROWS])
def test_row(
    row: str, numbers: Limits, results: list[tuple[float, bool]], passed: bool, healthy: bool | None, dead: bool
) -> None:
    state = play(numbers, *results)
    assert (state.passed, state.healthy, state.dead) == (passed, healthy, dead)


def test_the_table_is_complete_and_never_leads_back() -> None:
    assert set(TRANSITIONS) == set(itertools.product(Stage, Timing, COUNTS))
    order = list(Stage)
    for (stage, _, _), then in TRANSITIONS.items():
        assert order.index(then) >= order.index(stage)


def naive(numbers: Limits, history: list[tuple[float, bool]]) -> tuple[int | None, int | None]:
    """Indices of the results at which the task passes and dies, found by looking at the whole history each time."""

    def run(upto: int, kind: bool) -> int:
        return sum(1 for _ in itertools.takewhile(lambda item: item[1] is kind, reversed(history[: upto + 1])))

    indices = range(len(history))
    if numbers.initial_interval == 0:
        passed = 0 if history and history[0][1] else None
        late = 0
    else:
        in_time = [i for i in indices if history[i][0] <= numbers.initial_interval]
        passed = next((i for i in in_time if run(i, True) >= numbers.min_successes), None)
        late = len(in_time)
    if passed is None:
        return None, late if late < len(history) else None
    died = next((i for i in indices if i >= late and run(i, False) > numbers.max_failures), None)
    return passed, died


@settings(deadline=None)
@given(
    initial=st.sampled_from([0.0, 0.5, 10.0, 15.0, 40.0]),
    max_failures=st.integers(0, 4),
    min_successes=st.integers(1, 4),
    gaps=st.lists(st.tuples(st.floats(0, 12, allow_nan=False), st.booleans()), max_size=25),
)
def test_agrees_with_the_naive_model(
    initial: float, max_failures: int, min_successes: int, gaps: list[tuple[float, bool]]
) -> None:
    numbers = Limits(initial, 10, max_failures, min_successes)
    elapsed = list(itertools.accumulate(gap for gap, _ in gaps))
    history = [(at, success) for at, (_, success) in zip(elapsed, gaps, strict=True)]
    passed, died = naive(numbers, history)
    state = State()
    for index, (at, success) in enumerate(history):
        state = state.count(numbers, success=success, elapsed=at)
        dead_now = died is not None and index >= died
        assert state.dead == dead_now
        assert state.passed == (passed is not None and index >= passed)
        assert RULES["aurora-time"].restore(state.to_json()) == state


@pytest.mark.parametrize(
    ("numbers", "results", "text"),
    [
        (DEFAULTS, [(1, BAD)], "x (tolerated within the initial interval of 15 s)"),
        (DEFAULTS, [(16, BAD)], "x (not healthy within the initial interval of 15 s)"),
        (DEFAULTS, [(16, OK)], "x, but only after the initial interval of 15 s"),
        (limits(15, 0, 2), [(1, OK), (16, OK)], "x, but not 2 times in a row within the initial interval of 15 s"),
        (limits(0), [(1, BAD)], "x (without an initial interval the first check decides)"),
        (limits(15, 1), [(0, OK), (20, BAD)], "x (1 failure in a row, 1 allowed)"),
        (limits(15, 1), [(0, OK), (20, BAD), (30, BAD)], "x (2 failures in a row, 1 allowed)"),
        (limits(15, 0, 2), [(0, OK)], "x (1 in a row, 2 needed)"),
        (DEFAULTS, [(0, OK)], "x"),
    ],
)
def test_people_are_told_what_a_result_means(numbers: Limits, results: list[tuple[float, bool]], text: str) -> None:
    before = play(numbers, *results[:-1])
    assert play(numbers, *results).explain(numbers, before, "x") == text


@settings(deadline=None)
@given(
    st.builds(Memory, st.booleans(), st.sampled_from([None, True, False]), st.booleans(), st.just(2), st.just(0)),
    st.sampled_from([State(stage, passed=stage in (Stage.EARLY, Stage.SETTLED)) for stage in Stage]),
)
def test_adoption_keeps_what_either_side_has_latched(memory: Memory, own: State) -> None:
    adopted = own.adopt(memory)
    assert adopted.dead == (own.dead or memory.dead)
    assert adopted.passed == (own.passed or memory.passed)
    if not adopted.dead and memory.passed and memory.healthy is not None:
        assert adopted.healthy in (memory.healthy, own.stage is Stage.SETTLED)


@pytest.mark.parametrize(
    "record",
    [{}, {"stage": "warming"}, {"stage": "odd", "passed": False, "healthy": None, "failures": 0, "successes": 0}],
)
def test_a_foreign_record_is_refused(record: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"rule aurora-time|not a valid Stage"):
        RULES["aurora-time"].restore(record)
