"""The time-based rule, row by row and against a model that looks at whole histories."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.health.rules import RULES, Limits, Memory
from services.health.rules.aurora_time import COUNTS, TRANSITIONS, Stage, State, Timing
from tests.effort import examples
from tests.unit.health.rules.plays import BAD, FAILED, OK, PASSED, explained, play, reading

DEFAULTS = Limits(initial_interval=15, interval=10, max_failures=0, min_successes=1)


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
    ("a failure exactly at expiry is tolerated", limits(), [(15.0, BAD)], False, None, False),
    ("the first check completing after expiry fails it even as a success", limits(), [(15.1, OK)], False, False, True),
    ("never healthy: dead at the check near 20 s", limits(), [(0, BAD), (10, BAD), (20, BAD)], False, False, True),
    ("not passed at expiry: allowed failures do not help", limits(15, 5), [(0, BAD), (20, BAD)], False, False, True),
    ("healthy from 12 s on: dead at 20 s", limits(), [(0, BAD), (10, BAD), (20, OK)], False, False, True),
    ("too few successes within the interval", limits(15, 0, 3), [(0, OK), (10, OK), (20, OK)], False, False, True),
    ("fewer successes than needed do not pass", limits(15, 0, 3), [(0, OK), (10, OK)], False, None, False),
    ("enough successes within the interval", limits(15, 0, 2), [(0, OK), (10, OK)], True, True, False),
    ("successes have to be consecutive", limits(25, 0, 2), [(0, OK), (10, BAD), (20, OK)], False, None, False),
    ("passed is latched within the interval", limits(25), [(0, OK), (10, BAD), (20, BAD)], True, True, False),
    ("failures of the interval carry over", limits(15, 1), [(0, OK), (10, BAD), (20, BAD)], True, False, True),
    ("failures carried over are not yet too many", limits(15, 2), [(0, OK), (10, BAD), (20, BAD)], True, False, False),
    ("a success at the first late check resets", limits(15, 1), [(0, OK), (10, BAD), (20, OK)], True, True, False),
    ("the default allows no failure after expiry", limits(), [(0, OK), (20, BAD)], True, False, True),
    ("up to the maximum failures are allowed", limits(15, 2), [(0, OK), (20, BAD), (30, BAD)], True, False, False),
    ("more than the maximum is dead", limits(15, 1), [(0, OK), (20, BAD), (30, BAD)], True, False, True),
    ("healthy again after an allowed failure", limits(15, 1), [(0, OK), (20, BAD), (30, OK)], True, True, False),
    (
        "only failures in a row count",
        limits(15, 1),
        [(0, OK), (20, BAD), (30, OK), (40, BAD)],
        True,
        False,
        False,
    ),
    (
        "after expiry one success in a row is enough",
        limits(15, 1, 2),
        [(0, OK), (10, OK), (20, BAD), (30, OK)],
        True,
        True,
        False,
    ),
    ("dead is latched", limits(), [(20, BAD), (30, OK), (40, OK)], False, False, True),
    ("initial interval 0: the first success passes", limits(0), [(0.2, OK)], True, True, False),
    ("initial interval 0: one success decides", limits(0, 0, 3), [(0.2, OK)], True, True, False),
    ("initial interval 0: the first failure is the end", limits(0, 5), [(0.2, BAD)], False, False, True),
    ("initial interval 0: later failures are counted", limits(0, 1), [(0, OK), (10, BAD)], True, False, False),
    ("initial interval 0: too many are dead", limits(0, 1), [(0, OK), (10, BAD), (20, BAD)], True, False, True),
]


@pytest.mark.parametrize(("row", "numbers", "results", "passed", "healthy", "dead"), ROWS, ids=[row[0] for row in ROWS])
def test_row(
    row: str, numbers: Limits, results: list[tuple[float, bool]], passed: bool, healthy: bool | None, dead: bool
) -> None:
    state = play(State(), numbers, results)
    assert (state.passed, state.healthy, state.dead) == (passed, healthy, dead)


def test_the_table_is_complete_and_never_leads_back() -> None:
    assert set(TRANSITIONS) == set(itertools.product(Stage, Timing, COUNTS))
    order = list(Stage)
    for (stage, _, _), then in TRANSITIONS.items():
        assert order.index(then) >= order.index(stage)


def naive(numbers: Limits, history: list[tuple[float, bool]]) -> tuple[int | None, int | None, int]:
    """Indices of the results at which the task passes and dies, found by looking at the whole history each time.

    And the number of results that came in time.
    """
    indices = range(len(history))
    if numbers.initial_interval == 0:
        passed = 0 if history and history[0][1] else None
        late = 0
    else:
        in_time = [i for i in indices if history[i][0] <= numbers.initial_interval]
        passed = next((i for i in in_time if run(history, i, True) >= numbers.min_successes), None)
        late = len(in_time)
    if passed is None:
        return None, late if late < len(history) else None, late
    died = next((i for i in indices if i >= late and run(history, i, False) > numbers.max_failures), None)
    return passed, died, late


def run(history: list[tuple[float, bool]], upto: int, kind: bool) -> int:
    return sum(1 for _ in itertools.takewhile(lambda item: item[1] is kind, reversed(history[: upto + 1])))


@settings(deadline=None, max_examples=examples(300))
@given(
    initial=st.sampled_from([0.0, 0.5, 10.0, 15.0, 40.0]),
    max_failures=st.integers(0, 3),
    min_successes=st.integers(1, 3),
    gaps=st.lists(st.tuples(st.sampled_from([0.0, 0.5, 2.5, 5.0, 10.0, 12.0]), st.booleans()), max_size=25),
)
def test_agrees_with_the_naive_model(
    initial: float, max_failures: int, min_successes: int, gaps: list[tuple[float, bool]]
) -> None:
    numbers = Limits(initial, 10, max_failures, min_successes)
    elapsed = list(itertools.accumulate(gap for gap, _ in gaps))
    history = [(at, success) for at, (_, success) in zip(elapsed, gaps, strict=True)]
    passed, died, late = naive(numbers, history)
    state = State()
    for index, (at, success) in enumerate(history):
        last, state = state, state.before(numbers).count(numbers, reading(success), at)
        has_passed = passed is not None and index >= passed
        assert state.passed == has_passed
        assert state.dead == (died is not None and index >= died)
        if died is not None and index > died:
            assert state == last
            continue
        assert (state.failures, state.successes) == (run(history, index, False), run(history, index, True))
        if state.dead:
            assert state.healthy is False
        elif not has_passed:
            assert state.healthy is None
        else:
            assert state.healthy == (success or index < late)


@pytest.mark.parametrize(
    ("numbers", "results", "text"),
    [
        (DEFAULTS, [(1, BAD)], f"{FAILED} (tolerated within the initial interval of 15 s)"),
        (
            limits(25),
            [(1, OK), (2, BAD)],
            f"{FAILED} (tolerated within the initial interval of 25 s)",
        ),
        (DEFAULTS, [(16, BAD)], f"{FAILED} (not healthy within the initial interval of 15 s)"),
        (DEFAULTS, [(16, OK)], f"{PASSED}, but only after the initial interval of 15 s"),
        (
            limits(15, 0, 2),
            [(1, OK), (16, OK)],
            f"{PASSED}, but not 2 times in a row within the initial interval of 15 s",
        ),
        (limits(0), [(1, BAD)], f"{FAILED} (without an initial interval the first check decides)"),
        (limits(15, 1), [(0, OK), (20, BAD)], f"{FAILED} (1 failure in a row, 1 allowed)"),
        (limits(15, 1), [(0, OK), (20, BAD), (30, BAD)], f"{FAILED} (2 failures in a row, 1 allowed)"),
        (limits(15, 0, 2), [(0, OK)], f"{PASSED} (1 in a row, 2 needed)"),
        (DEFAULTS, [(0, OK)], PASSED),
        (DEFAULTS, [(0, OK), (20, OK)], PASSED),
    ],
)
def test_people_are_told_what_a_result_means(numbers: Limits, results: list[tuple[float, bool]], text: str) -> None:
    assert explained(State(), numbers, results) == text


def test_a_passed_tasks_growing_row_of_successes_is_no_news() -> None:
    numbers = limits(15, 1, 2)
    states = [play(State(), numbers, [(t, OK) for t in range(n)]) for n in range(5)]
    assert [one.told == two.told for one, two in itertools.pairwise(states)] == [False, False, True, True]
    failed = states[-1].count(numbers, reading(BAD), 20)
    assert failed.told != states[-1].told


def test_each_failure_in_a_row_is_news() -> None:
    rows = [play(State(), limits(60, 9), [(0, OK), *((1 + t, BAD) for t in range(n))]) for n in range(4)]
    assert len({state.told for state in rows}) == 4
    assert all(state.healthy for state in rows)


OWN = [
    State(Stage.WARMING, passed=False, healthy=None, failures=4),
    State(Stage.EARLY, passed=True, healthy=True, successes=3),
    State(Stage.SETTLED, passed=True, healthy=True, successes=3),
    State(Stage.DEAD, passed=True, healthy=False, failures=1),
    State(Stage.DEAD, passed=False, healthy=False, failures=1),
]


@pytest.mark.parametrize("own", OWN, ids=lambda state: f"{state.stage.value}-{state.passed}")
@pytest.mark.parametrize(
    ("memory", "stage", "healthy"),
    [
        (Memory(passed=False, healthy=None, dead=False, failures=2, successes=0), Stage.WARMING, None),
        # How much of the initial interval is left is not known: it starts anew.
        (Memory(passed=True, healthy=True, dead=False, failures=0, successes=1), Stage.EARLY, True),
        (Memory(passed=True, healthy=None, dead=False, failures=0, successes=0), Stage.EARLY, True),
        # An unhealthy task that lives proves that it was over.
        (Memory(passed=True, healthy=False, dead=False, failures=1, successes=0), Stage.SETTLED, False),
        (Memory(passed=True, healthy=False, dead=True, failures=1, successes=0), Stage.DEAD, False),
        (Memory(passed=False, healthy=False, dead=True, failures=1, successes=0), Stage.DEAD, False),
    ],
)
def test_adoption(own: State, memory: Memory, stage: Stage, healthy: bool | None) -> None:
    order = list(Stage)
    adopted = own.adopt(memory)
    then = max(stage, own.stage, key=order.index)
    assert adopted.stage is then
    assert adopted.passed == (own.passed or memory.passed)
    assert (adopted.failures, adopted.successes) == (memory.failures, memory.successes)
    if then is stage:
        assert adopted.healthy is healthy


def test_a_record_of_the_first_version_is_read() -> None:
    record = {"stage": "settled", "passed": True, "healthy": False, "failures": 2, "successes": 0}
    assert RULES["aurora-time"].restore(record) == State(Stage.SETTLED, True, False, 2, 0)
