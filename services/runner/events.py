"""What the task machine takes in and what it asks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from services.runner.budgets import Request
from services.runner.records import Cause, Phase, Record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from services.runner.processes import HandsRun
    from services.runner.spec import TaskSpec

# Who asks decides how the task ends (design: how a task ends). The plan's own verdict is not in here.
VERDICTS: Mapping[Cause, Phase] = MappingProxyType(
    {
        Cause.KILL: Phase.KILLED,
        Cause.SHUTDOWN: Phase.KILLED,
        Cause.AGENT_GONE: Phase.KILLED,
        Cause.OPERATOR: Phase.KILLED,
        Cause.UNHEALTHY: Phase.FAILED,
        Cause.DISK_LIMIT: Phase.FAILED,
        Cause.COMPLETION_TIME: Phase.FAILED,
        Cause.INVALID: Phase.FAILED,
        Cause.LOSE: Phase.LOST,
    }
)


def verdict_of(cause: Cause, spec: TaskSpec) -> Phase:
    """How a task ends that somebody ends."""
    if cause is Cause.UNHEALTHY and spec.health_kills:
        return Phase.KILLED
    return VERDICTS[cause]


class HandsSeen(NamedTuple):
    """The hands' whole view. `hello`: on a new connection, so that nothing said on older ones counts as told."""

    runs: Sequence[HandsRun]
    alive: int
    hello: bool = False


class Tick(NamedTuple):
    """Time has passed. `late`: much more than was meant to, as this process did not run: nobody's silence counts."""

    late: bool = False


class LifecycleDone(NamedTuple):
    """What became of a `Lifecycle`: there was an answer, whatever it said, or there was none."""

    step: int
    answered: bool
    detail: str = ""


class Resumed(NamedTuple):
    """The journal takes records again, or stops doing so: nothing new is started without it."""

    may_start: bool


class Gone(NamedTuple):
    """The executor and with it the task are gone for good."""

    message: str


class Overruled(NamedTuple):
    """A terminal status of the task was sent already, whatever the plan says."""

    phase: Phase
    message: str


Event = HandsSeen | Request | Tick | LifecycleDone | Resumed | Gone | Overruled


class StartRun(NamedTuple):
    """Start one run. Safe to repeat."""

    process: str
    run: int


class Terminate(NamedTuple):
    """SIGTERM now, SIGKILL at `kill_at` (CLOCK_BOOTTIME); 0: SIGKILL now. Safe to repeat."""

    kill_at: float


class StopRun(NamedTuple):
    """SIGKILL to one run that was given up; if it was not started yet, it never will be. Safe to repeat."""

    process: str
    run: int


class Lifecycle(NamedTuple):
    """POST to the task's lifecycle endpoint number `step`; no answer is of use after `until` (CLOCK_BOOTTIME)."""

    step: int
    until: float


Action = StartRun | Terminate | StopRun | Lifecycle


@dataclass(slots=True)
class Decision:
    """Records in the order in which they were applied, then actions in the order in which they are due."""

    records: list[Record] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
