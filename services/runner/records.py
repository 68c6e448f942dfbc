"""What the journal of a task consists of, after its header: one JSON object a record.

Records hold results, not reasons: replaying them needs no clock, no settings and no other part of the system.
"""

from __future__ import annotations

import enum
import json
from typing import Any, NamedTuple

from services.runner.processes import ProcessState


class Phase(enum.IntEnum):
    """Numbers of trivet.link.v1.TaskPhase."""

    ACTIVE = 1
    CLEANING = 2
    FINALIZING = 3
    SUCCESS = 4
    FAILED = 5
    KILLED = 6
    LOST = 7


TERMINAL = frozenset({Phase.SUCCESS, Phase.FAILED, Phase.KILLED, Phase.LOST})


class Cause(enum.IntEnum):
    """Numbers of trivet.link.v1.EndCause."""

    PLAN = 1
    KILL = 2
    SHUTDOWN = 3
    UNHEALTHY = 4
    DISK_LIMIT = 5
    COMPLETION_TIME = 6
    AGENT_GONE = 7
    INVALID = 8
    OPERATOR = 9
    LOSE = 10


class Moment(NamedTuple):
    """Now. `boot` (CLOCK_BOOTTIME, seconds) is for deciding, `wall` for showing."""

    boot: float
    wall: float


class RunRecord(NamedTuple):
    """A run has changed its state."""

    at: Moment
    process: str
    run: int
    state: ProcessState
    pid: int = 0
    ticks: int = 0
    code: int | None = None
    signal: int | None = None
    core: bool = False
    error: str = ""
    # WAITING: the hands had this run, and the journal does not have all the runs before it.
    found: bool = False


class EndRecord(NamedTuple):
    """The task is to end: the first one says why, later ones only bring the deadlines forward.

    `clean_until` and `end_at` are CLOCK_BOOTTIME: SIGKILL to everything regular, and to everything.
    """

    at: Moment
    cause: Cause
    verdict: Phase
    clean_until: float
    end_at: float
    seq: int = 0
    message: str = ""


class LifecycleRecord(NamedTuple):
    """A lifecycle endpoint is asked, or has answered; `until` (CLOCK_BOOTTIME) is when the next step is due.

    A step that is skipped ends at once: `until` is its own moment.
    """

    at: Moment
    step: int
    until: float
    answered: bool = False
    detail: str = ""


class PhaseRecord(NamedTuple):
    """The task has entered a phase."""

    at: Moment
    phase: Phase
    message: str = ""


class SnapshotRecord(NamedTuple):
    """Everything that was recorded before, in short: written when a long journal is compacted."""

    at: Moment
    state: dict[str, Any]


Record = RunRecord | EndRecord | LifecycleRecord | PhaseRecord | SnapshotRecord

_KINDS: dict[str, type[Record]] = {
    "run": RunRecord,
    "end": EndRecord,
    "lifecycle": LifecycleRecord,
    "phase": PhaseRecord,
    "snapshot": SnapshotRecord,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_ENUMS: dict[str, type[enum.IntEnum]] = {"cause": Cause, "verdict": Phase, "phase": Phase}


# `json.dumps` would make a new one for each record.
_to_json = json.JSONEncoder(separators=(",", ":")).encode


class BadRecord(Exception):
    """A payload is no record of a task's journal; `index` counts its journal's records from 0."""

    def __init__(self, text: str, index: int = 0) -> None:
        super().__init__(text)
        self.index = index


def encode(record: Record) -> bytes:
    """One journal payload. Fields at their defaults are left out."""
    defaults = record._field_defaults
    fields = {
        name: value
        for name, value in zip(record._fields, record, strict=True)
        if name not in defaults or defaults[name] != value
    }
    fields["is"] = _NAMES[type(record)]
    return _to_json(fields).encode()


def decode(payload: bytes) -> Record:
    """The record of a payload. Fields that a newer version has added are ignored.

    Raises:
        BadRecord: It is none.
    """
    try:
        fields = json.loads(payload)
        kind = _KINDS[fields.pop("is")]
        values = {name: fields[name] for name in kind._fields if name in fields}
        values["at"] = Moment(*values["at"])
        for name, enum_type in _ENUMS.items():
            if name in values:
                values[name] = enum_type(values[name])
        if kind is RunRecord:
            values["state"] = ProcessState(values["state"])
        return kind(**values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadRecord(f"not a record: {type(error).__name__}: {error}") from error
