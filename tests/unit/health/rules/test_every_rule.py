"""What holds under every rule, whatever happens: latches, counters, the journal."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.health.interpret import Meaning, Reading, Value
from services.health.rules import RULES, Limits, Memory

VALUES = [None, Value(exit_code=0), Value(exit_code=1), Value(http_status=200), Value(connected=False)]
LIMITS = st.builds(
    Limits,
    st.sampled_from([0.0, 10.0, 25.0]),
    st.just(10.0),
    st.integers(0, 3),
    st.integers(1, 3),
    st.sampled_from([0.0, 15.0]),
)
MEMORIES = st.builds(
    Memory,
    passed=st.booleans(),
    healthy=st.sampled_from([None, True, False]),
    dead=st.booleans(),
    failures=st.integers(0, 4),
    successes=st.integers(0, 4),
    reports=st.integers(0, 9),
    value=st.sampled_from(VALUES),
    changes=st.integers(0, 9),
)
READINGS = st.builds(
    Reading, st.sampled_from([Meaning.SUCCESS, Meaning.FAILURE]), st.just("X check: y"), st.sampled_from(VALUES)
)
STEPS = st.lists(st.tuples(st.sampled_from([0.0, 2.5, 10.0]), st.one_of(READINGS, READINGS, MEMORIES)), max_size=30)


@pytest.mark.parametrize("name", sorted(RULES))
@settings(deadline=None)
@given(numbers=LIMITS, steps=STEPS)
def test_invariants(name: str, numbers: Limits, steps: list[tuple[float, Reading | Memory]]) -> None:
    rule = RULES[name]
    assert rule.name == name
    state, elapsed = rule.start(), 0.0
    assert not state.dead
    assert state.healthy is None
    for gap, step in steps:
        last = state
        if isinstance(step, Memory):
            state = state.adopt(step)
            assert state.passed == (last.passed or (step.passed or name == "check"))
            assert state.dead == (last.dead or (step.dead and name != "check"))
        else:
            elapsed += gap
            due = state.before(numbers)
            state = due.count(numbers, step, elapsed)
            line = state.explain(numbers, due, step.detail)
            assert line.startswith("X check: ")
            # Who hears of nothing has missed nothing.
            if state.told == last.told:
                assert (state.passed, state.healthy, state.dead) == (last.passed, last.healthy, last.dead)
                assert (state.reports, state.value, state.changes) == (last.reports, last.value, last.changes)
        assert rule.restore(json.loads(json.dumps(state.to_json()))) == state
        assert state.passed or not last.passed
        assert state.dead or not last.dead
        assert state.healthy is False or not state.dead
        assert state.reports >= last.reports
        assert state.changes >= last.changes
        # The machine may be asked twice.
        assert state.before(numbers).before(numbers) == state.before(numbers)


@pytest.mark.parametrize("name", sorted(RULES))
@pytest.mark.parametrize(
    "record",
    [
        {},
        {"stage": "warming"},
        {"stage": "odd", "passed": False, "healthy": None, "failures": 0, "successes": 0, "attempts": 0, "reports": 0},
        {"value": {"exit_code": "1"}, "changes": 1},
        {"value": {"exit_code": 1, "connected": True}, "changes": 1},
        {"value": {}, "changes": 1},
        {"value": None, "changes": None},
    ],
    ids=str,
)
def test_a_foreign_record_is_refused(name: str, record: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"not a state of rule|not a valid Stage|not the value of a check"):
        RULES[name].restore(record)
