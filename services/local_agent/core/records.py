"""What the agent's log holds: facts, each written before it is acted upon. Replaying them gives the state again.

A record is one JSON object; messages stand in it as base64. Times: `at` is CLOCK_MONOTONIC of the host, seconds.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from dataclasses import dataclass


class RecordError(Exception):
    """A record of the log that this version does not understand."""


@dataclass(frozen=True)
class Record:
    """Base of all records."""


@dataclass(frozen=True)
class AgentStarted(Record):
    """A process began to work on this directory. All executors have to subscribe again."""

    agent_id: str
    boot_id: str
    port: int


@dataclass(frozen=True)
class AgentLeaving(Record):
    """The agent has told its master that it goes: whatever becomes of this process, the next is a new agent."""


@dataclass(frozen=True)
class AgentRetired(Record):
    """The agent gave its id up (Mesos: removal of `latest`): the next process is a new agent without executors."""


@dataclass(frozen=True)
class AgentDraining(Record):
    """Until the last executor is gone. `max_grace`: nanoseconds, -1: none."""

    max_grace: int = -1


@dataclass(frozen=True)
class BehaviorSet(Record):
    """How scheduler and master behave from now on."""

    scheduler_acknowledges: bool
    master_connected: bool


@dataclass(frozen=True)
class StatusHeld(Record):
    """A status that the master makes, and the scheduler gets once the agent has a master again."""

    status: bytes


@dataclass(frozen=True)
class HeldReleased(Record):
    """All held statuses are on their way."""


@dataclass(frozen=True)
class FrameworkTornDown(Record):
    """The framework is over; what its executors still send counts for nothing."""

    framework_id: str


@dataclass(frozen=True)
class FrameworkUpdated(Record):
    """A framework is known from now on, with this FrameworkInfo."""

    framework_id: str
    info: bytes


@dataclass(frozen=True)
class ExecutorAdded(Record):
    """A container was promised to a new run of an executor."""

    container_id: str
    framework_id: str
    executor_id: str
    info: bytes
    sandbox: str
    at: float


@dataclass(frozen=True)
class ContainerForked(Record):
    """The executor's process. `start_ticks` (field 22 of /proc/PID/stat) tells it from a later one with its pid."""

    container_id: str
    pid: int
    start_ticks: int


@dataclass(frozen=True)
class ExecutorSubscribed(Record):
    """SUBSCRIBE was accepted."""

    container_id: str
    at: float


@dataclass(frozen=True)
class ExecutorTerminating(Record):
    """SHUTDOWN or destroy was ordered. State, reason, message: for tasks without an end; no message: the default."""

    container_id: str
    state: int = 0
    reason: int = 0
    message: str = ""
    # A TaskResourceLimitation, serialized.
    limitation: bytes = b""


@dataclass(frozen=True)
class ContainerExited(Record):
    """The executor's process is gone. -1: code or signal not known, or not so."""

    container_id: str
    exit_code: int = -1
    exit_signal: int = -1


@dataclass(frozen=True)
class ExecutorForgotten(Record):
    """Not recovered after a restart: its framework does not checkpoint."""

    container_id: str


@dataclass(frozen=True)
class TaskAdded(Record):
    """A task waits for its executor. `group`: the same for all that go in one LAUNCH_GROUP; empty: goes alone."""

    container_id: str
    task_id: str
    info: bytes
    group: str = ""


@dataclass(frozen=True)
class TaskDelivered(Record):
    """LAUNCH was written to the stream, or would have been if there were one."""

    container_id: str
    task_id: str
    at: float


@dataclass(frozen=True)
class KillDelivered(Record):
    """KILL was written to the stream."""

    task_id: str
    at: float


@dataclass(frozen=True)
class UpdateAccepted(Record):
    """A status, decorated, is in the task's queue towards the scheduler."""

    container_id: str
    task_id: str
    status: bytes
    from_executor: bool


@dataclass(frozen=True)
class UnownedAccepted(Record):
    """A status of a task that no executor owns is on its way to the scheduler of this framework."""

    task_id: str
    status: bytes
    framework_id: str = ""


@dataclass(frozen=True)
class UpdateReceived(Record):
    """The scheduler has this status."""

    task_id: str
    status: bytes
    at: float


@dataclass(frozen=True)
class UpdateAcknowledged(Record):
    """The scheduler acknowledged the head of the task's queue. Container id: empty for a task that nobody owns."""

    container_id: str
    task_id: str
    uuid: bytes


# By name; `snapshot_records` adds its own.
TYPES: dict[str, type[Record]] = {cls.__name__: cls for cls in Record.__subclasses__()}


def encode(record: Record) -> bytes:
    """One record as it stands in the log."""
    value: dict[str, object] = {"type": type(record).__name__}
    for field in dataclasses.fields(record):
        item = getattr(record, field.name)
        value[field.name] = base64.b64encode(item).decode() if isinstance(item, bytes) else item
    return json.dumps(value, separators=(",", ":")).encode()


def decode(payload: bytes) -> Record:
    """The record in `payload`.

    Raises:
        RecordError: Unknown type, a field too many or too few.
    """
    value = json.loads(payload)
    record_type = TYPES.get(value.pop("type", ""))
    if record_type is None:
        raise RecordError("a record of a type that this version does not know")
    for field in dataclasses.fields(record_type):
        if field.type == "bytes" and field.name in value:
            value[field.name] = base64.b64decode(value[field.name])
        elif field.type == "tuple[str, ...]" and field.name in value:
            value[field.name] = tuple(value[field.name])
    try:
        return record_type(**value)
    except TypeError as error:
        raise RecordError(f"{record_type.__name__}: {error}") from error
