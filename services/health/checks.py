"""The check of one task: when to probe, and when its verdict changes.

Pure: events and the time go in, a new state and actions come out. Times are CLOCK_BOOTTIME seconds.

The initial interval runs only while probes can be made. It stands still while no driver is attached, from the start of
a transient attempt to the start of the next one, from a restart of the service to the first probe after it, and for
whatever time a probe starts later than it was due.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from services.health.interpret import Meaning, Reading
from services.health.model import (
    Action,
    Attached,
    Check,
    Detached,
    Ending,
    Event,
    Flight,
    Note,
    Phase,
    Plan,
    Remembered,
    Result,
    Save,
    SendProbe,
    SendVerdict,
    Started,
    Step,
    Tick,
)
from services.health.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# A driver that owes a result for this much longer than the probe's own budget is gone or frozen.
GRACE_FOR_RESULT = 5.0
# After an attempt that a lost link cut short, and to spread first attempts that a task's start waits for.
SHORT_WAIT = 1.0


def new(rule: str) -> Check:
    """The check of a task that has just been launched."""
    return Check(phase=Phase.IDLE, rule=RULES[rule].start())


def restored(check: Check) -> Check:
    """A check as it was journalled, at the start of another service process."""
    return dataclasses.replace(
        check, attached=False, since=None, void=True, due=None, remaining=None, flight=None, last_id=0
    )


def step(check: Check, plan: Plan, event: Event, now: float) -> Step:
    """Takes one event in. An event without a row in `TRANSITIONS` changes nothing.

    Args:
        check: State before.
        plan: The check's numbers.
        event: What has happened.
        now: CLOCK_BOOTTIME, seconds.
    """
    handler = TRANSITIONS.get((check.phase, type(event)))
    return (check, ()) if handler is None else handler(check, plan, event, now)


def wake_at(check: Check, plan: Plan) -> float | None:
    """When `Tick` is due; None: nothing to wait for."""
    if check.flight is not None:
        return check.flight.sent_at + plan.timeout + GRACE_FOR_RESULT if plan.timeout else None
    return check.due


def _attach(check: Check, plan: Plan, event: Attached, now: float) -> Step:
    check = dataclasses.replace(check, attached=True)
    known: tuple[Action, ...] = (SendVerdict(),) if check.version else ()
    if check.phase is not Phase.PROBING:
        return check, known
    due = now + check.remaining if check.remaining is not None else _due_after_restart(check, plan, event.jitter, now)
    check = dataclasses.replace(check, due=due, since=None if check.void else now, remaining=0.0)
    check, actions = _tick(check, plan, Tick(), now)
    return check, known + actions


def _due_after_restart(check: Check, plan: Plan, jitter: float, now: float) -> float:
    interval = plan.limits.interval
    if check.last_done is not None and now < check.last_done + interval <= now + interval:
        return check.last_done + interval
    # Overdue, as are those of many other tasks. A task that waits at the gate does not wait long.
    return now + jitter * (interval if check.rule.passed else min(interval, SHORT_WAIT))


def _detach(check: Check, plan: Plan, _: Detached, now: float) -> Step:
    if check.flight is not None:
        check, actions = _transient(check, plan, "the driver is gone", now)
        wait = min(plan.limits.interval, SHORT_WAIT)
        return dataclasses.replace(check, attached=False, due=None, remaining=wait), actions
    elapsed = check.elapsed + _waited(check, now)
    remaining = 0.0 if check.due is None else max(check.due - now, 0.0)
    return dataclasses.replace(check, attached=False, since=None, due=None, remaining=remaining, elapsed=elapsed), ()


def _detach_quietly(check: Check, _plan: Plan, _: Detached, _now: float) -> Step:
    return dataclasses.replace(check, attached=False), ()


def _start(check: Check, _plan: Plan, _: Started, now: float) -> Step:
    check = dataclasses.replace(check, phase=Phase.PROBING)
    if not check.attached:
        return check, (Save(),)
    check, actions = _fire(dataclasses.replace(check, due=now), now)
    return check, (Save(), *actions)


def _stop(check: Check, _plan: Plan, _: Ending, _now: float) -> Step:
    return _stopped(check), (Save(),)


def _stopped(check: Check) -> Check:
    return dataclasses.replace(check, phase=Phase.STOPPED, since=None, due=None, flight=None)


def _tick(check: Check, plan: Plan, _: Tick, now: float) -> Step:
    wake = wake_at(check, plan)
    if wake is None or now < wake:
        return check, ()
    if check.flight is None:
        return _fire(check, now)
    return _transient(check, plan, f"no result from the driver within {plan.timeout + GRACE_FOR_RESULT:g} s", now)


def _fire(check: Check, now: float) -> Step:
    # Made from a clock that survives the process, so that a late answer to an earlier one's probe never matches.
    probe_id = max(check.last_id + 1, int(now * 1000))
    check = dataclasses.replace(
        check,
        elapsed=check.elapsed + _waited(check, now),
        since=now,
        void=False,
        due=None,
        flight=Flight(probe_id, now),
        last_id=probe_id,
        probes=check.probes + 1,
    )
    return check, (SendProbe(probe_id),)


def _waited(check: Check, now: float) -> float:
    """Seconds that a wait has run against the initial interval: lateness of the service itself does not."""
    if check.since is None:
        return 0.0
    return max((now if check.due is None else min(now, check.due)) - check.since, 0.0)


def _result(check: Check, plan: Plan, event: Result, now: float) -> Step:
    flight = check.flight
    if flight is None or event.id != flight.id:
        # An answer that came twice or too late.
        return check, ()
    if event.reading.meaning is Meaning.TRANSIENT:
        return _transient(check, plan, event.reading.detail, now)
    took = max(now - flight.sent_at, 0.0)
    if math.isfinite(event.latency) and event.latency > 0:
        # The answer may have waited for this service.
        took = min(took, event.latency)
    return _counted(check, plan, event.reading, took, now)


def _counted(check: Check, plan: Plan, reading: Reading, took: float, now: float) -> Step:
    success = reading.meaning is Meaning.SUCCESS
    elapsed = check.elapsed + took
    rule = check.rule.count(plan.limits, success=success, elapsed=elapsed)
    after = dataclasses.replace(
        check,
        rule=rule,
        message=rule.explain(plan.limits, check.rule, reading.detail),
        elapsed=elapsed,
        last_done=now,
        failures=check.failures + (not success),
        flight=None,
        since=now,
        due=now + plan.limits.interval,
    )
    if rule.dead:
        after = _stopped(after)
    note = Note(reading, took)
    if _told(after) == _told(check):
        return after, (Save(), note)
    return _next_version(after, now), (Save(), SendVerdict(), note)


def _transient(check: Check, plan: Plan, detail: str, now: float) -> Step:
    sent_at = now if check.flight is None else check.flight.sent_at
    check = dataclasses.replace(
        check,
        transients=check.transients + 1,
        flight=None,
        since=None,
        void=True,
        last_done=now,
        due=now + plan.limits.interval,
    )
    return check, (Note(Reading(Meaning.TRANSIENT, detail), max(now - sent_at, 0.0)),)


def _remember(check: Check, _plan: Plan, event: Remembered, now: float) -> Step:
    newer = event.version > check.version
    lacks = (event.memory.passed and not check.rule.passed and not check.rule.dead) or (
        event.memory.dead and not check.rule.dead
    )
    if not (newer or lacks):
        return check, ()
    check = dataclasses.replace(
        check,
        rule=check.rule.adopt(event.memory),
        message=event.message or check.message,
        version=max(check.version, event.version),
        # It has been probed before, by a service that lost its books: its next probe may wait its turn.
        remaining=None,
    )
    if check.rule.dead:
        check = _stopped(check)
    return _next_version(check, now), (Save(),)


def _told(check: Check) -> tuple[object, ...]:
    """What makes a new verdict. The row of successes of a task that has passed grows with every probe: no news."""
    rule = check.rule
    return rule.passed, rule.healthy, rule.dead, rule.failures, check.message, 0 if rule.passed else rule.successes


def _next_version(check: Check, now: float) -> Check:
    # The clock outlives the process, so versions go on growing even when the journal is lost.
    return dataclasses.replace(check, version=max(check.version + 1, int(now * 1000)))


# Each handler takes the event of its own row.
TRANSITIONS: Mapping[tuple[Phase, type[Event]], Callable[[Check, Plan, Any, float], Step]] = {
    (Phase.IDLE, Attached): _attach,
    (Phase.IDLE, Detached): _detach_quietly,
    (Phase.IDLE, Started): _start,
    (Phase.IDLE, Ending): _stop,
    (Phase.IDLE, Remembered): _remember,
    (Phase.PROBING, Attached): _attach,
    (Phase.PROBING, Detached): _detach,
    (Phase.PROBING, Ending): _stop,
    (Phase.PROBING, Result): _result,
    (Phase.PROBING, Tick): _tick,
    (Phase.PROBING, Remembered): _remember,
    (Phase.STOPPED, Attached): _attach,
    (Phase.STOPPED, Detached): _detach_quietly,
}
