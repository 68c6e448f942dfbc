"""What an executor's author should hear of: calls that were refused, updates that did not count. Never in the log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2

if TYPE_CHECKING:
    from services.local_agent.core.model import AgentState


@dataclass(frozen=True)
class Remark:
    """Base of all remarks. Container id: whose call it was; empty: nobody's that is known."""

    container_id: str


@dataclass(frozen=True)
class RefusedCall(Remark):
    """An error was the answer. The ids are the caller's words; empty: the call was not read so far.

    `passing`: nothing is wrong with the call, the agent has only not recovered yet.
    """

    call: str
    status: int
    body: str
    framework_id: str = ""
    executor_id: str = ""
    passing: bool = False


@dataclass(frozen=True)
class IgnoredUpdate(Remark):
    """202 was the answer, and yet the update did not count. `reason`: the rule of the filter, and what became of it."""

    framework_id: str
    executor_id: str
    task_id: str
    state: str
    reason: str


def refused(
    state: AgentState, call: executor_pb2.Call | None, request: str, status: int, body: str, *, passing: bool
) -> RefusedCall:
    """`request`: method and path, for what was not read as a call."""
    if call is None:
        return RefusedCall("", request, status, body, passing=passing)
    framework_id, executor_id = call.framework_id.value, call.executor_id.value
    executor = state.executor(framework_id, executor_id)
    return RefusedCall(
        executor.container_id if executor is not None else "",
        executor_pb2.Call.Type.Name(call.type),
        status,
        body,
        _text(framework_id),
        _text(executor_id),
        passing=passing,
    )


def same(sent: mesos_pb2.TaskStatus, known: mesos_pb2.TaskStatus) -> bool:
    """The one is the other, sent once more; what the agent fills in, and a fresh timestamp, do not count."""
    return sent.uuid == known.uuid and _own(sent) == _own(known)


def _own(status: mesos_pb2.TaskStatus) -> mesos_pb2.TaskStatus:
    own = mesos_pb2.TaskStatus()
    own.CopyFrom(status)
    for field in ("source", "agent_id", "timestamp", "container_status", "reason"):
        own.ClearField(field)
    return own


def _text(value: str | bytes) -> str:
    # protobuf hands out a string that is not UTF-8 as bytes.
    return value.decode(errors="replace") if isinstance(value, bytes) else value
