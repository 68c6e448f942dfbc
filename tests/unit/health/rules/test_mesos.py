"""Mesos' rule for health checks, row by row and against a model that looks at whole histories."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.health.rules import RULES, Limits, Memory
from services.health.rules.mesos import TRANSITIONS, Event, Stage, State
from tests.effort import examples
from tests.unit.health.rules.plays import BAD, FAILED, OK, PASSED, explained, play, reading


def limits(grace: float = 10, consecutive: int = 3) -> Limits:
    """`consecutive` as in Mesos' `consecutive_failures`."""
    return Limits(grace, 10, consecutive - 1, 1, delay=5)


# (row of the reference, limits, results, healthy, dead, failures, reports)
ROWS = [
    ("no result: no opinion", limits(), [], None, False, 0, 0),
    ("the first success is reported", limits(), [(5, OK)], True, False, 0, 1),
    ("the first success is reported also after the grace period", limits(), [(50, OK)], True, False, 0, 1),
    ("further successes are not", limits(), [(5, OK), (6, OK), (50, OK)], True, False, 0, 1),
    ("a failure in the grace period is ignored", limits(), [(5, BAD)], None, False, 0, 0),
    ("any number of them is", limits(60), [(t, BAD) for t in range(50)], None, False, 0, 0),
    ("at the end of the grace period it is ignored", limits(), [(10, BAD)], None, False, 0, 0),
    ("after the grace period it counts", limits(), [(10.1, BAD)], False, False, 1, 1),
    ("ignored ones do not count later", limits(), [(1, BAD), (2, BAD), (3, BAD), (11, BAD)], False, False, 1, 1),
    ("a success ends the grace period for good", limits(60), [(1, OK), (2, BAD)], False, False, 1, 2),
    ("success after ignored failures only is the first", limits(), [(1, BAD), (5, OK)], True, False, 0, 1),
    ("every failure that counts is reported", limits(0, 9), [(t, BAD) for t in range(1, 6)], False, False, 5, 5),
    ("a success after failures is reported", limits(0), [(1, OK), (2, BAD), (3, OK)], True, False, 0, 3),
    ("a success resets the row", limits(0), [(1, BAD), (2, BAD), (3, OK), (4, BAD)], False, False, 1, 4),
    ("one less than the threshold is not enough", limits(0), [(1, BAD), (2, BAD)], False, False, 2, 2),
    ("at the threshold the task is ended", limits(0), [(1, BAD), (2, BAD), (3, BAD)], False, True, 3, 3),
    ("threshold 1: the first failure", limits(0, 1), [(1, BAD)], False, True, 1, 1),
    ("threshold 0 behaves as 1", limits(0, 0), [(1, BAD)], False, True, 1, 1),
    ("without a grace period the first failure counts", limits(0), [(0.1, BAD)], False, False, 1, 1),
    ("no startup deadline", limits(0, 99), [(1000.0 * t, BAD) for t in range(1, 90)], False, False, 89, 89),
    ("dead is latched", limits(0, 1), [(1, BAD), (2, OK), (3, BAD)], False, True, 1, 1),
]


@pytest.mark.parametrize(
    ("row", "numbers", "results", "healthy", "dead", "failures", "reports"), ROWS, ids=[row[0] for row in ROWS]
)
def test_row(
    row: str,
    numbers: Limits,
    results: list[tuple[float, bool]],
    healthy: bool | None,
    dead: bool,
    failures: int,
    reports: int,
) -> None:
    state = play(State(), numbers, results)
    assert (state.healthy, state.dead, state.failures, state.reports) == (healthy, dead, failures, reports)


def test_the_table_never_leads_back_and_has_no_row_for_what_cannot_be() -> None:
    order = list(Stage)
    for (stage, _), (then, _) in TRANSITIONS.items():
        assert order.index(then) >= order.index(stage)
    impossible = {(Stage.GRACE, Event.RECOVERY), (Stage.COUNTING, Event.EARLY)}
    assert set(TRANSITIONS) == set(itertools.product((Stage.GRACE, Stage.COUNTING), Event)) - impossible


def naive(grace: float, consecutive: int, history: list[tuple[float, bool]]) -> tuple[list[bool], bool]:
    """What the framework is told (healthy or not), and whether the task is ended: from the whole history."""
    first = next((index for index, (_, success) in enumerate(history) if success), len(history))
    # Failures of the grace period leave no trace at all.
    counting = [success for index, (at, success) in enumerate(history) if index >= first or at > grace]
    told: list[bool] = []
    for index, success in enumerate(counting):
        if success and (index == 0 or not counting[index - 1]):
            told.append(True)
        if not success:
            told.append(False)
            if counting[: index + 1][-max(consecutive, 1) :] == [False] * max(consecutive, 1):
                return told, True
    return told, False


@settings(deadline=None, max_examples=examples(300))
@given(
    grace=st.sampled_from([0.0, 10.0, 30.0]),
    consecutive=st.integers(0, 4),
    gaps=st.lists(st.tuples(st.sampled_from([0.5, 2.5, 5.0, 10.0]), st.booleans()), max_size=25),
)
def test_agrees_with_the_naive_model(grace: float, consecutive: int, gaps: list[tuple[float, bool]]) -> None:
    numbers = Limits(grace, 10, max(consecutive - 1, 0), 1)
    elapsed = list(itertools.accumulate(gap for gap, _ in gaps))
    history = [(at, success) for at, (_, success) in zip(elapsed, gaps, strict=True)]
    state = State()
    for index, (at, success) in enumerate(history):
        last, state = state, state.before(numbers).count(numbers, reading(success), at)
        told, dead = naive(grace, consecutive, history[: index + 1])
        assert state.reports == len(told)
        assert state.healthy == (told[-1] if told else None)
        assert state.dead == dead
        assert (state.told != last.told) == (state.reports > last.reports)
        if last.dead:
            assert state == last
            continue
        assert state.passed == any(success for _, success in history[: index + 1])
        assert state.failures == sum(1 for _ in itertools.takewhile(lambda one: not one, reversed(told)))
        row = [len(list(same)) for _, same in itertools.groupby(success for _, success in history[: index + 1])][-1]
        assert state.successes == (row if success else 0)


@pytest.mark.parametrize(
    ("numbers", "results", "text"),
    [
        (limits(), [(5, OK)], PASSED),
        (limits(), [(5, BAD)], f"{FAILED} (ignored within the grace period of 10 s)"),
        (limits(0), [(1, BAD)], "HTTP health check failed (1/3): status 503"),
        (limits(0), [(1, BAD), (2, BAD)], "HTTP health check failed (2/3): status 503"),
        (limits(0, 0), [(1, BAD)], "HTTP health check failed (1/1): status 503"),
        (limits(0), [(1, BAD), (2, OK)], PASSED),
    ],
)
def test_people_are_told_what_a_result_means(numbers: Limits, results: list[tuple[float, bool]], text: str) -> None:
    assert explained(State(), numbers, results) == text


FAILING = State(Stage.COUNTING, passed=True, healthy=False, failures=2, reports=7)


def test_that_a_task_was_called_running_resets_nothing() -> None:
    called_running = Memory(passed=True, healthy=None, dead=False, failures=0, successes=0)
    assert FAILING.adopt(called_running) == FAILING
    early = State().adopt(called_running)
    assert (early.stage, early.passed, early.healthy) == (Stage.GRACE, True, None)
    unknown = State(Stage.COUNTING, passed=False, healthy=False, failures=2, reports=2).adopt(called_running)
    assert unknown == State(Stage.COUNTING, passed=True, healthy=False, failures=2, reports=2)


@pytest.mark.parametrize(
    ("memory", "state"),
    [
        (
            Memory(passed=False, healthy=False, dead=False, failures=2, successes=0, reports=2),
            State(Stage.COUNTING, passed=False, healthy=False, failures=2, reports=2),
        ),
        (
            Memory(passed=True, healthy=True, dead=False, failures=0, successes=4, reports=9),
            State(Stage.COUNTING, passed=True, healthy=True, successes=4, reports=9),
        ),
        (
            Memory(passed=True, healthy=False, dead=True, failures=3, successes=0, reports=3),
            State(Stage.DEAD, passed=True, healthy=False, failures=3, reports=3),
        ),
    ],
)
def test_a_lost_journal_is_made_up_for_by_what_was_told(memory: Memory, state: State) -> None:
    assert State().adopt(memory) == state


def test_reports_go_on_and_dead_stays_dead() -> None:
    memory = Memory(passed=True, healthy=True, dead=False, failures=0, successes=1, reports=3)
    assert FAILING.adopt(memory) == State(Stage.COUNTING, passed=True, healthy=True, successes=1, reports=7)
    dead = State(Stage.DEAD, passed=False, healthy=False, failures=3, reports=3)
    assert dead.adopt(memory) == State(Stage.DEAD, passed=True, healthy=False, failures=3, reports=3)


def test_after_a_lost_journal_a_failing_task_fails_in_due_time() -> None:
    """Its grace period is over, even though the time that has been used up is forgotten."""
    memory = Memory(passed=False, healthy=False, dead=False, failures=2, successes=0, reports=2)
    assert play(State().adopt(memory), limits(60), [(1, BAD)]).dead


def test_a_record_is_read() -> None:
    record = {
        "stage": "counting",
        "passed": True,
        "healthy": False,
        "failures": 2,
        "successes": 0,
        "reports": 7,
    }
    assert RULES["mesos"].restore(record) == FAILING
