"""One check of a task: what becomes of the results. Pure, as `checks` is."""

from __future__ import annotations

import dataclasses
import math

from services.health.interpret import Meaning, Reading
from services.health.model import (
    Cause,
    Check,
    Gap,
    Noted,
    Phase,
    Plan,
    Remembered,
    Result,
    Save,
    SendVerdict,
    Step,
)

# Whoever is later than this was frozen.
LATE = 1.0


def result(check: Check, plan: Plan, event: Result, now: float) -> Step:
    """A driver's answer to the probe under way, or to an earlier one."""
    flight, reading = check.flight, event.reading
    if flight is None or event.id != flight.id:
        # An answer that came twice or too late.
        return check, ()
    measured = event.latency if math.isfinite(event.latency) and event.latency > 0 else 0.0
    late = plan.timeout > 0 and measured > plan.timeout + LATE
    match reading.meaning:
        case Meaning.TRANSIENT:
            return transient(check, plan, reading.detail, now)
        case Meaning.SNOOZED:
            snoozes = check.snoozes + 1
            return _unprobed(dataclasses.replace(check, snoozes=snoozes), plan, Cause.SNOOZED, reading, now)
        case Meaning.FAILURE if late and not check.doubted:
            # Whoever measured it was frozen meanwhile. If it goes on, it is the task's doing (a command that cannot be
            # killed).
            check = dataclasses.replace(check, doubted=True)
            return transient(check, plan, f"{reading.detail} (after {measured:.1f} s: the driver was frozen)", now)
    if check.doubted and not late:
        check = dataclasses.replace(check, doubted=False)
    took = max(now - flight.sent_at, 0.0)
    # The answer may have waited for this service.
    return _counted(check, plan, reading, min(took, measured) if measured else took, now)


def _counted(check: Check, plan: Plan, reading: Reading, took: float, now: float) -> Step:
    elapsed = check.elapsed + took
    rule = check.rule.count(plan.limits, reading, elapsed)
    news = rule.told != check.rule.told
    after = dataclasses.replace(
        check,
        rule=rule,
        message=rule.explain(plan.limits, check.rule, reading.detail) if news else check.message,
        elapsed=elapsed,
        last_done=now,
        failures=check.failures + (reading.meaning is Meaning.FAILURE),
        gap=None,
        flight=None,
        since=now,
        due=now + plan.limits.interval,
    )
    save = Save(Noted(reading, took))
    if not news:
        # The verdict stays as it is.
        return after, (save,)
    return stopped(after) if rule.dead else after, (save, SendVerdict())


def transient(check: Check, plan: Plan, detail: str, now: float, cause: Cause = Cause.TRANSIENT) -> Step:
    """The end of an attempt that could not be made."""
    check = dataclasses.replace(check, transients=check.transients + 1)
    return _unprobed(check, plan, cause, Reading(Meaning.TRANSIENT, detail), now)


def _unprobed(check: Check, plan: Plan, cause: Cause, reading: Reading, now: float) -> Step:
    """The end of an attempt that counts neither way."""
    sent_at = now if check.flight is None else check.flight.sent_at
    check = dataclasses.replace(
        check,
        flight=None,
        since=None,
        last_done=now,
        due=now + plan.limits.interval,
        gap=gap_of(check, cause, reading.detail, sent_at),
    )
    return check, (Save(Noted(reading, max(now - sent_at, 0.0))),)


def remember(check: Check, _plan: Plan, event: Remembered, _now: float) -> Step:
    """The driver's memory of our last verdict: counts if it is newer, and where it knows more."""
    memory, rule = event.memory, check.rule
    lacks = (
        (memory.passed and not rule.passed and not rule.dead)
        or (memory.dead and not rule.dead)
        or memory.changes > rule.changes
        or memory.reports > rule.reports
    )
    if not (event.newer or lacks):
        return check, ()
    check = dataclasses.replace(
        check,
        rule=rule.adopt(memory),
        message=event.message or check.message,
        # It has been probed before, by a service that lost its books: its next probe may wait its turn.
        restarted=True,
    )
    return stopped(check) if check.rule.dead else check, (Save(), SendVerdict())


def stopped(check: Check) -> Check:
    """Final: nothing is probed any more."""
    return dataclasses.replace(
        check, phase=Phase.STOPPED, since=None, due=None, flight=None, snoozed_until=None, gap=None
    )


def waited(check: Check, now: float) -> float:
    """Seconds that a wait has run against the initial interval: no longer than until its probe was due."""
    if check.since is None:
        return 0.0
    due = check.planned if check.due is None else check.due
    return max((now if due is None else min(now, due)) - check.since, 0.0)


def gap_of(check: Check, cause: Cause, detail: str, since: float) -> Gap:
    """What the gap is now; it began with the first cause of its row."""
    return Gap(since if check.gap is None else check.gap.since, cause, detail)
