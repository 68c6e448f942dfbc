"""What stands in a task's journal, record by record. Compact JSON, one array a record, the kind first."""

from __future__ import annotations

import base64
import json
from typing import NamedTuple

from google.protobuf.message import DecodeError

from mesos.v1 import mesos_pb2
from services.common.keys import Executor, TaskKey
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


class Proposed(NamedTuple):
    """A status was decided. Written before it is sent."""

    n: int
    at: float
    """CLOCK_BOOTTIME, seconds."""
    status: bytes
    """Serialised mesos.v1.TaskStatus: sent again byte for byte."""


class Answered(NamedTuple):
    """The driver's answer. `rejection` 0: accepted."""

    n: int
    uuid: bytes
    rejection: int = 0


class Acknowledged(NamedTuple):
    """The agent has the status."""

    n: int
    uuid: bytes


class Latched(NamedTuple):
    """The task has its terminal status, whoever made it."""

    latch: bytes
    """Serialised trivet.link.v1.Latch."""


class Closed(NamedTuple):
    """Nothing more will be said about the task: what it went by at its end, for operators."""

    at: float
    """Wall clock, seconds."""
    state: bytes
    """Serialised trivet.link.v1.TaskState, empty: none."""
    verdict: bytes
    """Serialised trivet.link.v1.Verdict, empty: none."""


Record = Opened | Proposed | Answered | Acknowledged | Latched | Closed


def encode(record: Record) -> bytes:
    """The record as journal payload."""
    match record:
        case Opened(key, epoch, accepted, gated):
            fields: list[object] = ["opened", *key.executor, key.task_id, key.launch, epoch, list(accepted), gated]
        case Proposed(n, at, status):
            fields = ["proposed", n, at, _text(status)]
        case Answered(n, uuid, rejection):
            fields = ["answered", n, _text(uuid), rejection]
        case Acknowledged(n, uuid):
            fields = ["acknowledged", n, _text(uuid)]
        case Latched(latch):
            fields = ["latched", _text(latch)]
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
            case ["answered", int(n), str(uuid), int(rejection)]:
                return Answered(n, _bytes(uuid), rejection)
            case ["acknowledged", int(n), str(uuid)]:
                return Acknowledged(n, _bytes(uuid))
            case ["latched", str(latch)]:
                return Latched(_checked(latch, link_pb2.Latch))
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


_Message = type[mesos_pb2.TaskStatus] | type[link_pb2.Latch] | type[link_pb2.TaskState] | type[link_pb2.Verdict]


def _checked(text: str, message: _Message) -> bytes:
    data = _bytes(text)
    if not message.FromString(data).IsInitialized():
        raise ValueError(f"{message.__name__} without its required fields")
    return data
