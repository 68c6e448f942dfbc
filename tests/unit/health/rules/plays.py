"""Results for the rules to judge."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from services.health.interpret import Meaning, Reading

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.health.rules import Limits, RuleState

S = TypeVar("S", bound="RuleState")

OK, BAD = True, False
PASSED = "HTTP health check passed"
FAILED = "HTTP health check failed: status 503"


def reading(success: bool) -> Reading:
    return Reading(Meaning.SUCCESS, PASSED) if success else Reading(Meaning.FAILURE, FAILED)


def play(state: S, limits: Limits, results: Iterable[tuple[float, bool]]) -> S:
    """The opinion after these results, each with the time at which it was complete."""
    for elapsed, success in results:
        state = state.before(limits).count(limits, reading(success), elapsed)
    return state


def explained(state: RuleState, limits: Limits, results: list[tuple[float, bool]]) -> str:
    """What people are told of the last of these results."""
    before = play(state, limits, results[:-1])
    last = reading(results[-1][1])
    after = before.before(limits).count(limits, last, results[-1][0])
    return after.explain(limits, before, last.detail)
