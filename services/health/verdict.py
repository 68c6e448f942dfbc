"""All checks of one task together: one version, one verdict. Pure, as `checks` is."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.health import checks
from services.health.model import Action, Attached, Check, Event, Kind, Plan, Remembered, Save, SendVerdict
from services.health.rules import Memory

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNJUDGED = Memory(passed=True, healthy=None, dead=False, failures=0, successes=0)


@dataclass(frozen=True, slots=True)
class Checks:
    """The checks of a task. `version` 0: there is no verdict yet."""

    version: int
    of: Mapping[Kind, Check]


@dataclass(frozen=True, slots=True)
class Heard:
    """The driver's memory of our last verdict. `result`: the message of the check that is only told."""

    version: int
    memory: Memory
    message: str
    result: str = ""


Step = tuple[Checks, list[tuple[Kind, Action]]]


def restored(task: Checks, now: float) -> Checks:
    """The checks as they were journalled, at the start of another service process."""
    return dataclasses.replace(task, of={kind: checks.restored(check, now) for kind, check in task.of.items()})


def passed(task: Checks, plans: Mapping[Kind, Plan]) -> bool:
    """Nothing keeps the task from RUNNING."""
    return all(check.rule.passed for kind, check in task.of.items() if plans[kind].gates)


def step(task: Checks, plans: Mapping[Kind, Plan], event: Event | Heard, now: float, kind: Kind | None = None) -> Step:
    """Takes one event in. Whatever was new, one verdict is sent, after all has been journalled.

    Args:
        task: State before.
        plans: The checks' numbers.
        event: What has happened.
        now: CLOCK_BOOTTIME, seconds.
        kind: Whom it concerns; None: all checks.
    """
    kinds = task.of if kind is None else (kind,) if kind in task.of else ()
    of, done = dict(task.of), list[tuple[Kind, Action]]()
    changed = told = False
    for each in kinds:
        before = of[each]
        of[each], actions = checks.step(before, plans[each], _for(each, event, task, plans), now)
        changed = changed or of[each] is not before
        for action in actions:
            done.append((each, action))
            told = told or isinstance(action, SendVerdict)
    after = Checks(task.version, of) if changed else task
    if isinstance(event, Heard) and event.version > task.version:
        after = dataclasses.replace(after, version=event.version)
    if isinstance(event, Attached) and not told:
        if after.version:
            done.append((next(iter(of)), SendVerdict()))
        elif passed(after, plans):
            # The gate is open from the beginning.
            done.append((next(iter(of)), Save()))
            told = True
    if told:
        # The clock outlives the process, so versions go on growing even when the journal is lost.
        after = dataclasses.replace(after, version=max(after.version + 1, int(now * 1000)))
        done = [pair for pair in done if not isinstance(pair[1], SendVerdict)]
        if not isinstance(event, Heard):
            # Whoever remembers is about to be attached, and hears it then.
            done.append((next(iter(of)), SendVerdict()))
    if len(done) > 1:
        done.sort(key=_order)
    return after, done


def _for(kind: Kind, event: Event | Heard, task: Checks, plans: Mapping[Kind, Plan]) -> Event:
    """The event as one check hears it."""
    match event:
        case Attached(spread) if kind is Kind.CHECK:
            return Attached((spread + 0.5) % 1.0)
        case Heard(version, memory, message, result):
            newer = version > task.version
            if kind is Kind.CHECK:
                own = dataclasses.replace(_UNJUDGED, value=memory.value, changes=memory.changes)
                return Remembered(own, result, newer)
            own = dataclasses.replace(memory, value=None, changes=0)
            if not plans[kind].gates:
                # The gate was open from the beginning, which says nothing of the check.
                own = dataclasses.replace(own, passed=memory.healthy is True)
            return Remembered(own, message, newer)
        case _:
            return event


def _order(pair: tuple[Kind, Action]) -> int:
    """Journalled, then told, then probed."""
    match pair[1]:
        case Save():
            return 0
        case SendVerdict():
            return 1
    return 2
