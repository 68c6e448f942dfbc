"""The attempt-based rule, row by row and against a model that looks at whole histories."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.health.rules import RULES, Limits, Memory
from services.health.rules.aurora_attempts import TRANSITIONS, Event, Stage, State, budget, forgiving
from tests.effort import examples
from tests.unit.health.rules.plays import BAD, FAILED, OK, PASSED, explained, play, reading

DEFAULTS = Limits(initial_interval=15, interval=10, max_failures=0, min_successes=1)


def limits(forgiven: int = 2, max_failures: int = 0, min_successes: int = 1) -> Limits:
    return Limits(10.0 * forgiven, 10, max_failures, min_successes)


def history(row: str) -> list[tuple[float, bool]]:
    """`+` is a success, `-` a failure; one each 10 s, which this rule must not look at."""
    return [(10.0 * place, mark == "+") for place, mark in enumerate(row)]


# (row of the reference, limits, results, passed, healthy, dead)
ROWS = [
    ("no result: no opinion", DEFAULTS, "", False, None, False),
    ("defaults: healthy at once", DEFAULTS, "+", True, True, False),
    ("defaults: healthy from 12 s on passes at the third check", DEFAULTS, "--+", True, True, False),
    ("defaults: never healthy is dead at the third check", DEFAULTS, "---", False, False, True),
    ("defaults: two failures are forgiven", DEFAULTS, "--", False, None, False),
    ("a forgiven failure is not counted", limits(2, 1), "---", False, None, False),
    ("failures after the forgiving attempts are counted", limits(2, 1), "----", False, False, True),
    ("success: too few", limits(2, 0, 2), "+", False, None, False),
    ("success: enough", limits(2, 0, 2), "++", True, True, False),
    ("success: resets the failures", limits(0, 1, 2), "-+-", False, None, False),
    ("failure: resets the successes", limits(4, 0, 2), "+-+", False, None, False),
    ("after RUNNING the first failure counts, whatever attempt it is", limits(5), "+-", True, False, True),
    ("after RUNNING failures up to the maximum are allowed", limits(5, 2), "+--", True, False, False),
    ("after RUNNING more than the maximum is dead", limits(5, 2), "+---", True, False, True),
    ("after RUNNING only failures in a row count", limits(0, 1), "+-+-", True, False, False),
    ("after RUNNING one success makes healthy", limits(2, 1, 2), "++-+", True, True, False),
    ("after RUNNING no budget runs out", limits(0, 1, 1), "+" + "-+" * 20, True, True, False),
    ("fail-fast: three needed, two left", limits(0, 2, 3), "++-", False, False, True),
    ("fail-fast: three needed, three left", limits(0, 2, 3), "+-", False, None, False),
    ("fail-fast: does not look at successes", limits(0, 2, 3), "+-+", False, None, False),
    ("fail-fast: forgiven attempts leave enough", limits(2, 0, 5), "+-", False, None, False),
    ("fail-fast: not after RUNNING", limits(0, 3, 3), "-+++-", True, False, False),
    ("fail-fast: not with a single attempt left", limits(2, 1, 2), "--+-", False, None, False),
    ("budget: passed with the last attempt", limits(2, 1, 2), "---++", True, True, False),
    ("budget: the last attempt may be made", limits(2, 1, 2), "--+-+", False, None, False),
    ("budget: no attempt is made after the last one", limits(2, 1, 2), "--+-++", False, False, True),
    ("initial interval 0: nothing is forgiven", limits(0), "-", False, False, True),
    ("initial interval 0: the maximum is allowed", limits(0, 1), "-+", True, True, False),
    ("initial interval 0: more than the maximum is dead", limits(0, 1), "--", False, False, True),
    ("dead is latched", DEFAULTS, "---+++", False, False, True),
]


@pytest.mark.parametrize(("row", "numbers", "results", "passed", "healthy", "dead"), ROWS, ids=[row[0] for row in ROWS])
def test_row(row: str, numbers: Limits, results: str, passed: bool, healthy: bool | None, dead: bool) -> None:
    state = play(State(), numbers, history(results))
    assert (state.passed, state.healthy, state.dead) == (passed, healthy, dead)


@pytest.mark.parametrize(
    ("initial", "interval", "attempts"),
    [
        (15, 10, 2),
        (10, 10, 1),
        (10.1, 10, 2),
        (0, 10, 0),
        (20, 10, 2),
        (3, 10, 1),
        # Whole but for the rounding of floating point.
        (2.1, 0.7, 3),
        (4.2, 0.3, 14),
        (0.3, 0.1, 3),
        (3600, 0.1, 36000),
    ],
)
def test_forgiving_attempts_are_rounded_up(initial: float, interval: float, attempts: int) -> None:
    numbers = Limits(initial, interval, 3, 2)
    assert forgiving(numbers) == attempts
    assert budget(numbers) == attempts + 3 + 2


def test_before_an_attempt_the_budget_is_looked_at() -> None:
    numbers = limits(2, 1, 2)
    state = play(State(), numbers, history("--+-"))
    assert state.before(numbers) is state
    state = state.count(numbers, reading(OK), 40)
    assert not state.dead
    spent = state.before(numbers)
    assert (spent.dead, spent.passed, spent.healthy) == (True, False, False)
    assert spent.told != state.told
    assert spent.before(numbers) is spent
    text = "not enough successful health checks in time: attempt 5 of 5, 2 in a row needed"
    assert spent.explain(numbers, state, "") == text


def test_after_running_attempts_are_not_counted() -> None:
    assert play(State(), limits(2, 1), history("-+-+-+")).attempts == 2


def test_time_is_of_no_meaning() -> None:
    late = play(State(), DEFAULTS, [(9999.0, OK)])
    assert late.passed
    assert play(State(), DEFAULTS, [(9999.0, BAD)]).healthy is None


def test_the_table_never_leads_back_and_has_no_row_for_what_cannot_be() -> None:
    order = list(Stage)
    for (stage, _), then in TRANSITIONS.items():
        assert order.index(then) >= order.index(stage)
    impossible = {(Stage.RUNNING, event) for event in (Event.FORGIVEN, Event.HOPELESS, Event.SPENT)}
    assert set(TRANSITIONS) == set(itertools.product((Stage.STARTING, Stage.RUNNING), Event)) - impossible


def naive(numbers: Limits, results: list[bool]) -> tuple[int | None, int | None, int | None]:
    """Indices of the result that passes, the one that kills, and the one that is not waited for any more."""
    forgiven = 0
    while forgiven * numbers.interval < numbers.initial_interval:
        forgiven += 1
    allowed = forgiven + numbers.max_failures + numbers.min_successes
    passed = None
    for index in range(len(results)):
        made = results[: index + 1]
        if passed is None and index == allowed:
            return None, None, index
        row = list(itertools.takewhile(lambda result: not result, reversed(made)))
        if passed is None:
            if made[-numbers.min_successes :] == [True] * numbers.min_successes:
                passed = index
                continue
            counted = min(len(row), max(len(made) - forgiven, 0))
            left = allowed - len(made)
            if counted and (counted > numbers.max_failures or (left > 1 and left < numbers.min_successes)):
                return None, index, None
        elif len(row) > numbers.max_failures:
            return passed, index, None
    return passed, None, None


@settings(deadline=None, max_examples=examples(400))
@given(
    forgiven=st.integers(0, 4),
    part=st.sampled_from([0.0, 0.5]),
    max_failures=st.integers(0, 3),
    min_successes=st.integers(1, 5),
    results=st.lists(st.booleans(), max_size=25),
)
def test_agrees_with_the_naive_model(
    forgiven: int, part: float, max_failures: int, min_successes: int, results: list[bool]
) -> None:
    numbers = Limits((forgiven + part) * 10, 10, max_failures, min_successes)
    state = State()
    for index, result in enumerate(results):
        passed, died, spent = naive(numbers, results[: index + 1])
        last = state
        state = state.before(numbers)
        assert (state != last) == (spent == index and not last.dead)
        state = state.count(numbers, reading(result), 0)
        assert state.passed == (passed is not None)
        assert state.dead == (died is not None or spent is not None)
        if state.dead:
            assert state.healthy is False
            if died != index:
                assert spent == index or state == last
        else:
            assert state.healthy is (result if passed is not None else None)
            row = [len(list(same)) for _, same in itertools.groupby(results[: index + 1])][-1]
            assert state.successes == (row if result else 0)
            if result or passed is not None:
                assert state.failures == (0 if result else row)


@pytest.mark.parametrize(
    ("numbers", "results", "text"),
    [
        (DEFAULTS, "-", f"{FAILED} (forgiven, attempt 1 of 3)"),
        (DEFAULTS, "---", f"{FAILED} (1 failure in a row, 0 allowed)"),
        (limits(2, 1), "---", f"{FAILED} (1 failure in a row, 1 allowed)"),
        (limits(2, 1), "+--", f"{FAILED} (2 failures in a row, 1 allowed)"),
        (limits(0, 2, 4), "++-", f"{FAILED} (too few attempts left: attempt 3 of 6, 4 in a row needed)"),
        (limits(2, 0, 2), "+", f"{PASSED} (1 in a row, 2 needed)"),
        (limits(2, 0, 2), "++", PASSED),
        (limits(2, 1, 2), "++-+", PASSED),
    ],
)
def test_people_are_told_what_a_result_means(numbers: Limits, results: str, text: str) -> None:
    assert explained(State(), numbers, history(results)) == text


def test_what_is_news() -> None:
    numbers = limits(2, 1, 2)
    told = [play(State(), numbers, history("-++++-"[:length])).told for length in range(7)]
    changed = [one != two for one, two in itertools.pairwise(told)]
    # A forgiven failure is none, nor is a row of successes that grows after it has passed.
    assert changed == [False, True, True, False, False, True]


@pytest.mark.parametrize(
    ("memory", "stage", "healthy"),
    [
        (Memory(passed=False, healthy=None, dead=False, failures=1, successes=0), Stage.STARTING, None),
        (Memory(passed=True, healthy=None, dead=False, failures=0, successes=0), Stage.RUNNING, True),
        (Memory(passed=True, healthy=True, dead=False, failures=0, successes=9), Stage.RUNNING, True),
        (Memory(passed=True, healthy=False, dead=False, failures=1, successes=0), Stage.RUNNING, False),
        (Memory(passed=True, healthy=False, dead=True, failures=1, successes=0), Stage.DEAD, False),
        (Memory(passed=False, healthy=False, dead=True, failures=1, successes=0), Stage.DEAD, False),
    ],
)
def test_adoption(memory: Memory, stage: Stage, healthy: bool | None) -> None:
    adopted = State(attempts=1).adopt(memory)
    assert (adopted.stage, adopted.passed, adopted.healthy) == (stage, memory.passed, healthy)
    assert (adopted.failures, adopted.successes, adopted.attempts) == (memory.failures, memory.successes, 1)


def test_adoption_undoes_nothing() -> None:
    nothing = Memory(passed=False, healthy=None, dead=False, failures=0, successes=0)
    running = play(State(), DEFAULTS, history("+"))
    assert (running.adopt(nothing).stage, running.adopt(nothing).passed) == (Stage.RUNNING, True)
    dead = play(State(), DEFAULTS, history("---"))
    assert (dead.adopt(nothing).dead, dead.adopt(nothing).healthy) == (True, False)
    remembered = Memory(passed=True, healthy=True, dead=False, failures=0, successes=1)
    assert dead.adopt(remembered).dead


def test_a_record_is_read() -> None:
    record = {
        "stage": "starting",
        "passed": False,
        "healthy": None,
        "failures": 1,
        "successes": 0,
        "attempts": 3,
    }
    assert RULES["aurora-attempts"].restore(record) == State(Stage.STARTING, False, None, 1, 0, 3)
