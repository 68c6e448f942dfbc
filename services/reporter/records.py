"""What stands in a task's journal, record by record. Compact JSON, one array a record, the kind first."""

from __future__ import annotations

import base64
import json
from typing import NamedTuple

from google.protobuf.message import DecodeError

from mesos.v1 import mesos_pb2
from services.common.keys import Executor, TaskKey
from services.reporter.updates import Told
from trivet.link.v1 import link_pb2


class BadRecord(Exception):
    """A record that this version does not understand."""


class Opened(NamedTuple):
    """First record: whose journal this is, and what the driver had accepted before it began."""

    key: TaskKey
    epoch: str
    accepted: tuple[int, ...] = ()
    """mesos.v1.TaskState numbers of an earlier reporter's statuses."""
    gated: bool = False
    """The task was gated then, and nothing but changes of `healthy` was told of it."""


class Proposed(NamedTuple):
    """A status was decided. Written before it is sent."""

    n: int
    at: float
    """CLOCK_BOOTTIME, seconds."""
    status: bytes
    """Serialised mesos.v1.TaskStatus: sent again byte for byte."""
    told: Told | None = None
    """What updates have told when this one is out; None in journals of a version that told changes of health only."""


class Answered(NamedTuple):
    """The driver's answer. `rejection` 0: accepted."""

    n: int
    uuid: bytes
    rejection: int = 0
    wall: float = 0.0
    """Wall clock, seconds: when it came; 0: not known, here and below."""


class Acknowledged(NamedTuple):
    """The agent has the status."""

    n: int
    uuid: bytes
    wall: float = 0.0


class Latched(NamedTuple):
    """The task has its terminal status, whoever made it."""

    latch: bytes
    """Serialised trivet.link.v1.Latch."""
    wall: float = 0.0


class Closed(NamedTuple):
    """Nothing more will be said about the task: what it went by at its end, for operators."""

    at: float
    """Wall clock, seconds."""
    state: bytes
    """Serialised trivet.link.v1.TaskState, empty: none."""
    verdict: bytes
    """Serialised trivet.link.v1.Verdict, empty: none."""


class Noted(NamedTuple):
    """Something was learned that explains the task: see `explain`."""

    at: float
    """Wall clock, seconds: when the reporter learned of it."""
    source: int
    """trivet.reporter.v1.Source."""
    source_at: float
    """Wall clock, seconds: when it happened there; 0: not told."""
    kind: int
    """trivet.reporter.v1.TraceKind."""
    text: str
    n: int = 0
    """The proposal that it is about; 0: none."""
    uuid: bytes = b""
    minor: bool = False
    """About an update of a running task that later ones make unimportant."""


class Forgotten(NamedTuple):
    """The notes so far are void; those that follow stand for them."""

    dropped: int
    """How many were dropped since the beginning."""


Record = Opened | Proposed | Answered | Acknowledged | Latched | Closed | Noted | Forgotten


def encode(record: Record) -> bytes:
    """The record as journal payload."""
    match record:
        case Opened(key, epoch, accepted, gated):
            fields: list[object] = ["opened", *key.executor, key.task_id, key.launch, epoch, list(accepted), gated]
        case Proposed(n, at, status, told):
            fields = ["proposed", n, at, _text(status), *(told or ())]
        case Answered(n, uuid, rejection, wall):
            fields = ["answered", n, _text(uuid), rejection, wall]
        case Acknowledged(n, uuid, wall):
            fields = ["acknowledged", n, _text(uuid), wall]
        case Latched(latch, wall):
            fields = ["latched", _text(latch), wall]
        case Noted(at, source, source_at, kind, text, n, uuid, minor):
            fields = ["noted", at, source, source_at, kind, n, _text(uuid), minor, text]
        case Forgotten(dropped):
            fields = ["forgotten", dropped]
        case Closed(at, state, verdict):
            fields = ["closed", at, _text(state), _text(verdict)]
    return json.dumps(fields, separators=(",", ":")).encode()


def decode(payload: bytes) -> Record:
    """The record of a journal payload.

    Raises:
        BadRecord: It is none, or not one of this version.
    """
    try:
        match json.loads(payload):
            case ["opened", str(framework), str(executor), str(incarnation), str(task), int(launch), str(epoch),
                  list(accepted), bool(gated)]:  # fmt: skip
                key = TaskKey(Executor(framework, executor, incarnation), task, launch)
                return Opened(key, epoch, tuple(int(state) for state in accepted), gated)
            case ["proposed", int(n), int(at) | float(at), str(status)]:
                return Proposed(n, float(at), _checked(status, mesos_pb2.TaskStatus))
            case ["proposed", int(n), int(at) | float(at), str(status), (None | True | False) as healthy,
                  int(reports), int(changes)]:  # fmt: skip
                told = Told(healthy, reports, changes)
                return Proposed(n, float(at), _checked(status, mesos_pb2.TaskStatus), told)
            # The times are not in journals of earlier versions.
            case ["answered", int(n), str(uuid), int(rejection), *wall]:
                return Answered(n, _bytes(uuid), rejection, _time(wall))
            case ["acknowledged", int(n), str(uuid), *wall]:
                return Acknowledged(n, _bytes(uuid), _time(wall))
            case ["latched", str(latch), *wall]:
                return Latched(_checked(latch, link_pb2.Latch), _time(wall))
            case ["noted", int(at) | float(at), int(source), int(source_at) | float(source_at), int(kind), int(n),
                  str(uuid), bool(minor), str(text)]:  # fmt: skip
                return Noted(float(at), source, float(source_at), kind, text, n, _bytes(uuid), minor)
            case ["forgotten", int(dropped)]:
                return Forgotten(dropped)
            case ["closed", int(at) | float(at), str(state), str(verdict)]:
                return Closed(float(at), _checked(state, link_pb2.TaskState), _checked(verdict, link_pb2.Verdict))
            case _:
                raise BadRecord("unknown record")
    except (ValueError, TypeError, RecursionError, DecodeError) as error:
        raise BadRecord(f"{type(error).__name__}: {error}") from error


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _time(rest: list[object]) -> float:
    match rest:
        case []:
            return 0.0
        case [int(wall) | float(wall)]:
            return float(wall)
        case _:
            raise ValueError("a time, or nothing")


_Message = type[mesos_pb2.TaskStatus] | type[link_pb2.Latch] | type[link_pb2.TaskState] | type[link_pb2.Verdict]


def _checked(text: str, message: _Message) -> bytes:
    data = _bytes(text)
    if not message.FromString(data).IsInitialized():
        raise ValueError(f"{message.__name__} without its required fields")
    return data
