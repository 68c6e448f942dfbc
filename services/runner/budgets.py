"""How long an end may take (design: how a task ends; Thermos: finalization_wait, preemption wait).

A budget is two deadlines on CLOCK_BOOTTIME: until when regular processes may clean up after SIGTERM, and until when
everything, final processes included, has to be over.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from services.runner.records import Cause
from services.runner.spec import MAX_KILL_WAIT, TaskSpec

# Longer than any host is up: keeps arithmetic and journals free of infinities.
_FOREVER = 1e9


class Graces(NamedTuple):
    """Seconds from the end request: without and with final processes."""

    clean: float
    total: float


class Budget(NamedTuple):
    """Deadlines, CLOCK_BOOTTIME."""

    clean_until: float
    end_at: float


class Request(NamedTuple):
    """What somebody wants (trivet.link.v1.EndRequest).

    `grace` in seconds, None: the task's default. `deadline` on CLOCK_BOOTTIME, 0: none.
    """

    cause: Cause
    seq: int = 0
    grace: float | None = None
    deadline: float = 0.0
    message: str = ""


def kill_graces(spec: TaskSpec) -> Graces:
    """How long a kill takes at most when the request does not say.

    The framework's kill policy is one budget for everything. Without one, final processes get as long again as the
    regular ones, within `MAX_KILL_WAIT` in all.
    """
    if spec.kill_grace is not None:
        grace = _seconds(spec.kill_grace)
        return Graces(grace, grace)
    grace = _seconds(spec.finalization_wait)
    if not spec.has_final:
        return Graces(grace, grace)
    return Graces(grace, max(grace, min(2 * grace, MAX_KILL_WAIT)))


def natural(spec: TaskSpec, now: float) -> Budget:
    """A plan that has come to its own end: one budget for cleaning up and final processes."""
    until = now + _seconds(spec.finalization_wait)
    return Budget(until, until)


def requested(spec: TaskSpec, request: Request, start: float) -> Budget:
    """What `request` allows when its time runs from `start`."""
    if request.cause is Cause.LOSE or (request.cause is Cause.COMPLETION_TIME and request.grace is None):
        # Thermos: `lose` is a kill with a budget of 0 s. Mesos: a task over its max_completion_time gets no grace.
        graces = Graces(0.0, 0.0)
    elif request.grace is not None and not math.isnan(request.grace):
        graces = Graces(_seconds(request.grace), _seconds(request.grace))
    else:
        graces = kill_graces(spec)
    budget = Budget(start + graces.clean, start + graces.total)
    if request.deadline > 0:
        budget = earliest(budget, Budget(request.deadline, request.deadline))
    return budget


def earliest(one: Budget, other: Budget) -> Budget:
    """The stricter of two: a later request never lengthens."""
    return Budget(min(one.clean_until, other.clean_until), min(one.end_at, other.end_at))


def _seconds(value: float) -> float:
    return min(max(value, 0.0), _FOREVER)
