"""Checks that are not interpreted: what is a change, and what is said of it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.health.interpret import Meaning, Reading, Value
from services.health.rules import RULES, Limits, Memory
from services.health.rules.check import State

LIMITS = Limits(0, 10, 0, 1, delay=15)
ZERO, ONE = Value(exit_code=0), Value(exit_code=1)
UP, DOWN = Value(connected=True), Value(connected=False)
NONE = Reading(Meaning.FAILURE, "Command check: result unavailable: timed out after 20 s")


def found(value: Value | None) -> Reading:
    return NONE if value is None else Reading(Meaning.SUCCESS, f"Command check: {value}", value)


def play(*values: Value | None) -> State:
    state = State()
    for value in values:
        state = state.before(LIMITS).count(LIMITS, found(value), 1.0)
    return state


# (row of the reference, values, changes)
ROWS = [
    ("before the first attempt there is nothing", [], 0),
    ("a first timeout produces nothing", [None], 0),
    ("nor does any number of them", [None, None, None], 0),
    ("the first value is a change", [ZERO], 1),
    ("also after a timeout", [None, ZERO], 1),
    ("the same value is none", [ZERO, ZERO, ZERO], 1),
    ("another value is one", [ZERO, ONE], 2),
    ("and back", [ZERO, ONE, ZERO], 3),
    ("the loss of the value is one", [ZERO, None], 2),
    ("a loss that lasts is not", [ZERO, None, None], 2),
    ("its return is one, even as the same", [ZERO, None, ZERO], 3),
    ("false is a value", [DOWN], 1),
    ("false is not the same as none", [DOWN, None], 2),
    ("false is not the same as true", [UP, DOWN], 2),
]


@pytest.mark.parametrize(("row", "values", "changes"), ROWS, ids=[row[0] for row in ROWS])
def test_row(row: str, values: list[Value | None], changes: int) -> None:
    state = play(*values)
    assert state.changes == changes
    assert state.value == (values[-1] if values else None)


@settings(deadline=None)
@given(st.lists(st.sampled_from([None, ZERO, ONE]), max_size=30))
def test_agrees_with_the_naive_model(values: list[Value | None]) -> None:
    state = State()
    for index, value in enumerate(values):
        last, state = state, state.before(LIMITS).count(LIMITS, found(value), 1.0)
        runs = [run for run, _ in itertools.groupby([None, *values[: index + 1]])]
        assert state.changes == len(runs) - 1
        assert state.value == runs[-1]
        assert (state.told != last.told) == ([None, *values][index] != value)
        # Nobody acts on the result.
        assert (state.passed, state.healthy, state.dead) == (True, None, False)
        assert (state.failures, state.successes, state.reports) == (0, 0, 0)


@pytest.mark.parametrize(
    ("before", "reading", "text"),
    [
        (None, found(ZERO), "Command check: exit code 0"),
        (ZERO, found(ZERO), "Command check: exit code 0"),
        (ZERO, found(ONE), "Command check: exit code 0 -> 1"),
        (None, NONE, "Command check: result unavailable: timed out after 20 s"),
        (ZERO, NONE, "Command check: result unavailable: timed out after 20 s (was exit code 0)"),
        (
            Value(http_status=200),
            Reading(
                Meaning.SUCCESS,
                "HTTP check: status 302 (redirect to 'http://far/' not followed)",
                Value(http_status=302),
            ),
            "HTTP check: status 200 -> 302 (redirect to 'http://far/' not followed)",
        ),
        (
            UP,
            Reading(Meaning.SUCCESS, "TCP check: not connected: connection refused", DOWN),
            "TCP check: connected -> not connected: connection refused",
        ),
        (DOWN, Reading(Meaning.SUCCESS, "TCP check: connected", UP), "TCP check: not connected -> connected"),
    ],
)
def test_people_are_told_from_what_to_what(before: Value | None, reading: Reading, text: str) -> None:
    state = State(before, 3)
    assert state.count(LIMITS, reading, 0).explain(LIMITS, state, reading.detail) == text


def test_who_has_seen_more_changes_has_seen_the_last_one() -> None:
    memory = Memory(passed=True, healthy=None, dead=False, failures=0, successes=0, value=ONE, changes=5)
    assert State().adopt(memory) == State(ONE, 5)
    assert State(ZERO, 4).adopt(memory) == State(ONE, 5)
    assert State(ZERO, 5).adopt(memory) == State(ZERO, 5)
    lost = Memory(passed=True, healthy=None, dead=False, failures=0, successes=0, value=None, changes=6)
    assert State(ZERO, 5).adopt(lost) == State(None, 6)
    called_running = Memory(passed=True, healthy=None, dead=False, failures=0, successes=0)
    assert State(ZERO, 5).adopt(called_running) == State(ZERO, 5)


def test_a_record_is_read() -> None:
    assert RULES["check"].restore({"value": {"connected": False}, "changes": 2}) == State(DOWN, 2)
    assert RULES["check"].restore({"value": None, "changes": 2}) == State(None, 2)
