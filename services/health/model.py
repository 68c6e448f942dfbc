"""What a task's check is made of: its state, what can happen to it, and what it asks for."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.health.interpret import Reading
    from services.health.rules import Limits, Memory, RuleState


class Phase(enum.Enum):
    """Where a check stands."""

    IDLE = "idle"
    """The task has not started."""
    PROBING = "probing"
    STOPPED = "stopped"
    """The task is ending, over, or dead by verdict. Final."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The unchanging part of a check. `timeout` 0: none."""

    limits: Limits
    timeout: float


@dataclass(frozen=True, slots=True)
class Flight:
    """The probe under way."""

    id: int
    sent_at: float


@dataclass(frozen=True, slots=True)
class Check:
    """Everything about one check. The first block is journalled, the second holds for one service process."""

    phase: Phase
    rule: RuleState
    message: str = ""
    version: int = 0
    elapsed: float = 0.0
    """Seconds of the initial interval that are used up."""
    last_done: float | None = None
    probes: int = 0
    failures: int = 0
    transients: int = 0

    attached: bool = False
    since: float | None = None
    """Since when the initial interval runs; None: it stands still."""
    void: bool = True
    """The time until the next probe does not run against the initial interval."""
    due: float | None = None
    """When the next probe starts; only while attached."""
    remaining: float | None = 0.0
    """What is left of the wait for the next probe while nobody is attached; None: not known since a restart."""
    flight: Flight | None = None
    last_id: int = 0


@dataclass(frozen=True, slots=True)
class Attached:
    """A driver has come. `jitter` is a random number from 0 to 1."""

    jitter: float


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
    """The driver's memory of our last verdict."""

    memory: Memory
    version: int
    message: str


Event = Attached | Detached | Started | Ending | Result | Tick | Remembered


@dataclass(frozen=True, slots=True)
class SendProbe:
    """Have the driver make this attempt."""

    id: int


@dataclass(frozen=True, slots=True)
class SendVerdict:
    """Tell the driver the whole verdict."""


@dataclass(frozen=True, slots=True)
class Save:
    """Journal the state. Always comes before what is told to others."""


@dataclass(frozen=True, slots=True)
class Note:
    """Keep a result for people."""

    reading: Reading
    latency: float


Action = SendProbe | SendVerdict | Save | Note
Step = tuple[Check, tuple[Action, ...]]
