"""From a proposed status to the exact bytes that the agent gets (Mesos: who fills what in TaskStatus)."""

from __future__ import annotations

import os

from executor_shim.driver.state.entries import TERMINAL_STATES, Task
from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2
from trivet.reporter.v1 import reporter_pb2

# How far along a state is: a status may not go back.
_RANKS = {
    mesos_pb2.TASK_STARTING: 1,
    mesos_pb2.TASK_RUNNING: 2,
    mesos_pb2.TASK_KILLING: 3,
    **dict.fromkeys(TERMINAL_STATES, 4),
}

MAX_MESSAGE_BYTES = 1024

_Result = mesos_pb2.CheckStatusInfo
# "No result" of a check; the agent refuses one without the message of its type.
_CHECK_RESULTS: dict[int, mesos_pb2.CheckStatusInfo] = {
    mesos_pb2.CheckInfo.COMMAND: _Result(type=mesos_pb2.CheckInfo.COMMAND, command=_Result.Command()),
    mesos_pb2.CheckInfo.HTTP: _Result(type=mesos_pb2.CheckInfo.HTTP, http=_Result.Http()),
    mesos_pb2.CheckInfo.TCP: _Result(type=mesos_pb2.CheckInfo.TCP, tcp=_Result.Tcp()),
}


def new_uuid() -> bytes:
    """16 raw bytes of a version 4 uuid: the agent refuses any other form."""
    # RFC 4122: version and variant have their bits, all others are random. The module for it takes 3 ms to load.
    data = bytearray(os.urandom(16))
    data[6] = data[6] & 0x0F | 0x40
    data[8] = data[8] & 0x3F | 0x80
    return bytes(data)


def rejection(task: Task, state: int) -> reporter_pb2.Rejection:
    """Why the task cannot be given a status of `state`; UNSPECIFIED when it can."""
    if task.latch is not None:
        return reporter_pb2.REJECTION_ALREADY_TERMINAL
    rank = _RANKS.get(state, 0)
    newest = max((_RANKS.get(entry.state, 0) for entry in task.accepted), default=0)
    # RUNNING may repeat (health and check updates); everything else comes once.
    if rank == 0 or rank < newest or (rank == newest and state != mesos_pb2.TASK_RUNNING):
        return reporter_pb2.REJECTION_OUT_OF_ORDER
    return reporter_pb2.REJECTION_UNSPECIFIED


def check_type(info: bytes) -> int:
    """`CheckInfo.type` of a serialised TaskInfo; 0: the task defines no check that a status could speak of."""
    check = mesos_pb2.TaskInfo.FromString(info).check
    return check.type if check.HasField("type") else 0


def finished(status: mesos_pb2.TaskStatus, *, executor_id: str, uuid: bytes, now: float, check: int = 0) -> bytes:
    """A serialised `Call.Update` of the status: from here on the same bytes until they are acknowledged.

    Args:
        status: As proposed; not changed.
        executor_id: Of this executor; the agent does not add it.
        uuid: 16 bytes.
        now: Wall clock, seconds, for a status without a timestamp.
        check: The task's `CheckInfo.type`, 0 without a check. Every update of such a task says something of it: that
            there is no result when the proposal has none (Mesos: check_status in every update).
    """
    update = executor_pb2.Call.Update()
    update.status.CopyFrom(status)
    update.status.uuid = uuid
    update.status.source = mesos_pb2.TaskStatus.SOURCE_EXECUTOR
    update.status.executor_id.value = executor_id
    if not update.status.HasField("timestamp"):
        update.status.timestamp = now
    # Left to the agent: a wrong one would be dropped without a word.
    update.status.ClearField("agent_id")
    if check in _CHECK_RESULTS and not update.status.HasField("check_status"):
        update.status.check_status.CopyFrom(_CHECK_RESULTS[check])
    return update.SerializeToString()


def completion_limit(info: bytes) -> float:
    """`max_completion_time` of a serialised TaskInfo, seconds; 0: it has none."""
    task = mesos_pb2.TaskInfo.FromString(info)
    # Mesos' master refuses negative ones. A limit of 0 is one all the same: the task ends as soon as it has begun.
    return max(task.max_completion_time.nanoseconds / 1e9, 1e-9) if task.HasField("max_completion_time") else 0.0


def fallback(task_id: str, state: str, message: str, reason: str = "") -> mesos_pb2.TaskStatus:
    """A status from the driver's own table; `message` may hold what others have said."""
    return mesos_pb2.TaskStatus(
        task_id=mesos_pb2.TaskID(value=task_id), state=state, message=one_line(message), reason=reason or None
    )


def one_line(text: str) -> str:
    """Text as a status may carry it: one line of at most MAX_MESSAGE_BYTES bytes (Mesos: message conventions)."""
    clean = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    encoded = clean.encode()
    if len(encoded) <= MAX_MESSAGE_BYTES:
        return clean
    return encoded[: MAX_MESSAGE_BYTES - 3].decode(errors="ignore") + "..."
