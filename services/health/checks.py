"""One check of a task: when to probe. What becomes of the results is in `results`.

Pure: events and the time go in, a new state and actions come out. Times are CLOCK_BOOTTIME seconds.

The initial interval runs while a probe is made, and in the wait until the next one is due, whether or not anybody could
make one meanwhile: none is wanted. So neither a restart nor a lost link gives anything back. It stands still for as
long as a probe starts later than it was due (no service, no driver, a frozen host, its turn among many), from the start
of a transient attempt or of one that was cut short to the start of the next one, and while the check is snoozed.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from services.health.model import (
    Action,
    Attached,
    Cause,
    Check,
    Detached,
    Ending,
    Event,
    Flight,
    Gap,
    Phase,
    Plan,
    Remembered,
    Result,
    Save,
    SendProbe,
    SendVerdict,
    Snooze,
    Started,
    Step,
    Tick,
)
from services.health.results import LATE, gap_of, remember, result, stopped, transient, waited
from services.health.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# A driver that owes a result for this much longer than the probe's own budget is gone or frozen.
GRACE_FOR_RESULT = 5.0
# After an attempt that a lost link cut short, and to spread attempts that a task's start waits for.
SHORT_WAIT = 1.0


def new(rule: str) -> Check:
    """The check of a task that has just been launched."""
    return Check(phase=Phase.IDLE, rule=RULES[rule].start())


def restored(check: Check, now: float) -> Check:
    """A check as it was journalled, at the start of another service process."""
    if check.phase is not Phase.PROBING:
        return check
    detached = Gap(now, Cause.DETACHED, "no driver is attached since the service's start")
    return dataclasses.replace(check, restarted=True, gap=check.gap or detached)


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


def wake_at(check: Check) -> float | None:
    """When `Tick` is due; None: nothing to wait for."""
    if check.flight is not None:
        return check.flight.until
    if check.due is None or check.snoozed_until is None:
        return check.due
    return max(check.due, check.snoozed_until)


def _attach(check: Check, plan: Plan, event: Attached, now: float) -> Step:
    check = dataclasses.replace(check, attached=True, spread=event.spread)
    if check.phase is not Phase.PROBING:
        return check, ()
    before: tuple[Action, ...] = ()
    due = now if check.planned is None else check.planned
    if check.restarted:
        due = _due_after_restart(check, plan, now)
        if due != check.planned:
            check = dataclasses.replace(check, elapsed=check.elapsed + waited(check, now), since=None)
            # Another restart before that time does not put it off again.
            before = (Save(),)
    snoozed = _snoozed(check, now)
    gap = None if check.gap is not None and check.gap.cause is Cause.DETACHED else check.gap
    check = dataclasses.replace(
        check,
        due=due,
        planned=None,
        restarted=False,
        snoozed_until=check.snoozed_until if snoozed else None,
        gap=gap_of(check, Cause.SNOOZED, "snoozed", now) if snoozed else gap,
    )
    check, actions = _tick(check, plan, Tick(), now)
    return check, before + actions


def _due_after_restart(check: Check, plan: Plan, now: float) -> float:
    interval = plan.limits.interval
    planned = check.planned
    if planned is None and check.last_done is not None:
        planned = check.last_done + interval
    if planned is not None and now < planned <= now + max(interval, plan.limits.delay):
        return planned
    # Overdue, as are those of many other tasks. A task that waits at the gate does not wait long.
    return now + check.spread * (min(interval, SHORT_WAIT) if _at_gate(check, plan) else interval)


def _detach(check: Check, plan: Plan, _: Detached, now: float) -> Step:
    actions: tuple[Action, ...] = ()
    if check.flight is not None:
        check, actions = transient(check, plan, "the driver is gone", now, cause=Cause.DETACHED)
        planned: float | None = now + min(plan.limits.interval, SHORT_WAIT)
    else:
        planned = check.due
    return dataclasses.replace(
        check,
        attached=False,
        due=None,
        planned=planned,
        gap=check.gap or Gap(now, Cause.DETACHED, "no driver is attached"),
    ), actions


def _detach_quietly(check: Check, _plan: Plan, _: Detached, _now: float) -> Step:
    return dataclasses.replace(check, attached=False), ()


def _start(check: Check, plan: Plan, _: Started, now: float) -> Step:
    check = dataclasses.replace(check, phase=Phase.PROBING)
    if check.restarted and not check.attached:
        # It has started before, and whoever knew when has lost the books.
        return check, (Save(),)
    check = dataclasses.replace(check, since=None if _snoozed(check, now) else now)
    if not check.attached:
        return dataclasses.replace(check, planned=now + plan.limits.delay), (Save(),)
    check = dataclasses.replace(check, due=now + plan.limits.delay)
    check, actions = _tick(check, plan, Tick(), now)
    return check, (Save(), *actions)


def _stop(check: Check, _plan: Plan, _: Ending, _now: float) -> Step:
    return stopped(check), (Save(),)


def _tick(check: Check, plan: Plan, _: Tick, now: float) -> Step:
    wake = wake_at(check)
    if wake is None or now < wake:
        return check, ()
    late = now - wake > LATE
    if check.flight is not None:
        if late and not check.flight.prolonged:
            # This process was frozen: the answer may be here, unread.
            flight = dataclasses.replace(check.flight, until=now + GRACE_FOR_RESULT, prolonged=True)
            return dataclasses.replace(check, flight=flight), ()
        detail = f"no result from the driver within {plan.timeout + GRACE_FOR_RESULT:g} s"
        return transient(check, plan, detail, now)
    if late and not check.postponed:
        return _postponed(check, plan, now - wake, now), ()
    return _fire(check, plan, now)


def _postponed(check: Check, plan: Plan, lateness: float, now: float) -> Check:
    """After a freeze many are overdue, those of as long a time as it took: as long it takes to make up for them."""
    wait = min(plan.limits.interval, lateness, *((SHORT_WAIT,) if _at_gate(check, plan) else ()))
    elapsed = check.elapsed + waited(check, now)
    return dataclasses.replace(check, due=now + check.spread * wait, elapsed=elapsed, since=None, postponed=True)


def _fire(check: Check, plan: Plan, now: float) -> Step:
    elapsed = check.elapsed + waited(check, now)
    rule = check.rule.before(plan.limits)
    if rule.told != check.rule.told:
        message = rule.explain(plan.limits, check.rule, "")
        check = dataclasses.replace(check, rule=rule, elapsed=elapsed, message=message)
        return stopped(check) if rule.dead else check, (Save(), SendVerdict())
    # Made from a clock that survives the process, so that a late answer to an earlier one's probe never matches.
    probe_id = max(check.last_id + 1, int(now * 1000))
    check = dataclasses.replace(
        check,
        rule=rule,
        elapsed=elapsed,
        since=now,
        due=None,
        snoozed_until=None,
        # A snooze that is over; one by the file goes on until an attempt has shown that the file is gone.
        gap=None if check.snoozed_until is not None else check.gap,
        postponed=False,
        flight=Flight(probe_id, now, now + plan.timeout + GRACE_FOR_RESULT if plan.timeout else None),
        last_id=probe_id,
        probes=check.probes + 1,
    )
    return check, (SendProbe(probe_id),)


def _snooze_early(check: Check, _plan: Plan, event: Snooze, _now: float) -> Step:
    return dataclasses.replace(check, snoozed_until=event.until), (Save(),)


def _snooze(check: Check, plan: Plan, event: Snooze, now: float) -> Step:
    if event.until is None:
        return _wake(check, plan, now)
    check = dataclasses.replace(check, elapsed=check.elapsed + waited(check, now)) if check.flight is None else check
    # What is under way is not counted: nobody waits for its result any more.
    due = check.due if check.flight is None else now + plan.limits.interval
    check = dataclasses.replace(
        check,
        snoozed_until=event.until,
        flight=None,
        due=due,
        since=None,
        gap=gap_of(check, Cause.SNOOZED, "snoozed", now) if check.attached else check.gap,
    )
    return check, (Save(),)


def _wake(check: Check, plan: Plan, now: float) -> Step:
    gap = check.gap
    if gap is not None and gap.cause is Cause.SNOOZED:
        gap = None if check.attached else Gap(gap.since, Cause.DETACHED, "no driver is attached")
    check = dataclasses.replace(check, snoozed_until=None, gap=gap)
    if not check.attached:
        elapsed = check.elapsed + waited(check, now)
        # Whoever wants one now does not want it spread.
        return dataclasses.replace(check, elapsed=elapsed, since=None, planned=now, postponed=True), (Save(),)
    if check.flight is not None:
        return check, (Save(),)
    check = dataclasses.replace(check, elapsed=check.elapsed + waited(check, now), since=None, due=now)
    check, actions = _fire(check, plan, now)
    return check, (Save(), *actions)


def _snoozed(check: Check, now: float) -> bool:
    return check.snoozed_until is not None and now < check.snoozed_until


def _at_gate(check: Check, plan: Plan) -> bool:
    return plan.gates and not check.rule.passed


# Each handler takes the event of its own row.
TRANSITIONS: Mapping[tuple[Phase, type[Event]], Callable[[Check, Plan, Any, float], Step]] = {
    (Phase.IDLE, Attached): _attach,
    (Phase.IDLE, Detached): _detach_quietly,
    (Phase.IDLE, Started): _start,
    (Phase.IDLE, Ending): _stop,
    (Phase.IDLE, Remembered): remember,
    (Phase.IDLE, Snooze): _snooze_early,
    (Phase.PROBING, Attached): _attach,
    (Phase.PROBING, Detached): _detach,
    (Phase.PROBING, Ending): _stop,
    (Phase.PROBING, Result): result,
    (Phase.PROBING, Tick): _tick,
    (Phase.PROBING, Remembered): remember,
    (Phase.PROBING, Snooze): _snooze,
    (Phase.STOPPED, Attached): _attach,
    (Phase.STOPPED, Detached): _detach_quietly,
}
