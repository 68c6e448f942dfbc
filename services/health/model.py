"""What a check is made of: its state, what can happen to it, and what it asks for. All times are in seconds."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.health.interpret import Reading
    from services.health.rules import Limits, Memory, RuleState


class Kind(enum.Enum):
    """A task may have one check of each."""

    HEALTH = "health"
    """Leads to a verdict: Aurora's health_check_config or Mesos' TaskInfo.health_check."""
    CHECK = "check"
    """Its results are told as they are: Mesos' TaskInfo.check."""

    # Members are single objects; an enum's own hash is Python code, and is asked for often with every probe.
    __hash__ = object.__hash__


class Phase(enum.Enum):
    """Where a check stands."""

    IDLE = "idle"
    """The task has not started."""
    PROBING = "probing"
    STOPPED = "stopped"
    """The task is ending, over, or dead by verdict. Final."""

    __hash__ = object.__hash__


class Cause(enum.Enum):
    """Why no probe can be made."""

    DETACHED = "detached"
    TRANSIENT = "transient"
    SNOOZED = "snoozed"


@dataclass(frozen=True, slots=True)
class Gap:
    """A time in which no probe could be made: counts neither way. `detail` is one line for people."""

    since: float
    cause: Cause
    detail: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The unchanging part of a check."""

    limits: Limits
    timeout: float
    """0: none."""
    gates: bool = True
    """RUNNING waits for it."""


@dataclass(frozen=True, slots=True)
class Flight:
    """The probe under way. `until`: its result is not waited for any longer; None: for ever."""

    id: int
    sent_at: float
    until: float | None
    prolonged: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """Everything about one check. The first block is journalled, the second holds for one service process."""

    phase: Phase
    rule: RuleState
    message: str = ""
    """Of the newest verdict."""
    elapsed: float = 0.0
    """Seconds of the initial interval that are used up."""
    last_done: float | None = None
    probes: int = 0
    failures: int = 0
    transients: int = 0
    snoozes: int = 0
    """Attempts that the snooze file has prevented."""
    snoozed_until: float | None = None
    """Nothing is probed until then."""
    gap: Gap | None = None
    """None: probes can be made."""
    since: float | None = None
    """Since when the initial interval runs, until the next probe is due; None: it stands still until that starts."""
    planned: float | None = None
    """While no driver is attached: `due`, as it was."""

    attached: bool = False
    spread: float = 0.0
    """This check's place among those that are overdue at the same time, from 0 to 1."""
    due: float | None = None
    """When the next probe starts; only while attached."""
    restarted: bool = False
    """No driver has come since a restart of the service, or the books of an earlier one are lost."""
    postponed: bool = False
    """The next probe was overdue and waits its turn."""
    doubted: bool = False
    """The last failure came too late to be believed."""
    flight: Flight | None = None
    last_id: int = 0


@dataclass(frozen=True, slots=True)
class Attached:
    """A driver has come. `spread` is a number from 0 to 1, different for each check."""

    spread: float


@dataclass(frozen=True, slots=True)
class Detached:
    """The driver's stream is gone."""


@dataclass(frozen=True, slots=True)
class Started:
    """A process of the task runs."""


@dataclass(frozen=True, slots=True)
class Ending:
    """The task is being ended, or is over."""


@dataclass(frozen=True, slots=True)
class Result:
    """A driver's answer. `latency` in seconds, as measured there; 0: not measured."""

    id: int
    reading: Reading
    latency: float = 0.0


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """The driver's memory of our last verdict. `newer`: it is newer than ours."""

    memory: Memory
    message: str
    newer: bool


@dataclass(frozen=True, slots=True)
class Snooze:
    """An operator wants no probes until then; None: wants one now."""

    until: float | None


Event = Attached | Detached | Started | Ending | Result | Tick | Remembered | Snooze


@dataclass(frozen=True, slots=True)
class Noted:
    """A result for people, with its latency as far as it is known."""

    reading: Reading
    latency: float


@dataclass(frozen=True, slots=True)
class Save:
    """Journal the state, and keep what was found. Always comes before what is told to others."""

    noted: Noted | None = None


@dataclass(frozen=True, slots=True)
class SendProbe:
    """Have the driver make this attempt."""

    id: int


@dataclass(frozen=True, slots=True)
class SendVerdict:
    """Tell the driver the whole verdict: something in it is new."""


Action = Save | SendProbe | SendVerdict
Step = tuple[Check, tuple[Action, ...]]
