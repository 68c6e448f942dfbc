"""Statuses that the agent makes, and what it adds to those of executors (Mesos: who fills what in TaskStatus)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesos.v1 import mesos_pb2

if TYPE_CHECKING:
    from services.local_agent.core.model import Executor, Framework
    from services.local_agent.core.step import Step

_Status = mesos_pb2.TaskStatus


def partition_aware(framework: Framework | None, state: mesos_pb2.TaskState) -> mesos_pb2.TaskState:
    """TASK_LOST takes the place of the newer states for frameworks that do not know them."""
    capability = mesos_pb2.FrameworkInfo.Capability.PARTITION_AWARE
    if framework is not None and framework.has_capability(capability):
        return state
    return mesos_pb2.TASK_LOST


def made_by_agent(
    step: Step,
    task_id: str,
    executor_id: str,
    *,
    state: int,
    reason: int,
    message: str,
    limitation: bytes = b"",
) -> mesos_pb2.TaskStatus:
    """A status with SOURCE_AGENT. `limitation`: a TaskResourceLimitation, serialized."""
    status = _Status(
        task_id=mesos_pb2.TaskID(value=task_id),
        state=mesos_pb2.TaskState.Name(state),
        message=message,
        source=_Status.SOURCE_AGENT,
        reason=_Status.Reason.Name(reason),
        agent_id=mesos_pb2.AgentID(value=step.state.agent_id),
        timestamp=step.now.wall,
        uuid=step.new_uuid(),
    )
    if executor_id:
        status.executor_id.value = executor_id
    if limitation:
        status.limitation.ParseFromString(limitation)
    return status


def lost_with_agent(step: Step, task_id: str, executor_id: str) -> mesos_pb2.TaskStatus:
    """What the master says when an agent is gone and its framework does not checkpoint."""
    return _made_by_master(step, task_id, executor_id, "disconnected", _Status.REASON_AGENT_DISCONNECTED)


def removed_with_agent(step: Step, task_id: str, executor_id: str) -> mesos_pb2.TaskStatus:
    """What the master says when an agent takes its leave."""
    return _made_by_master(step, task_id, executor_id, "removed: the agent unregistered", _Status.REASON_AGENT_REMOVED)


def _made_by_master(
    step: Step, task_id: str, executor_id: str, what: str, reason: mesos_pb2.TaskStatus.Reason
) -> mesos_pb2.TaskStatus:
    # Without a uuid: never acknowledged.
    return _Status(
        task_id=mesos_pb2.TaskID(value=task_id),
        state=mesos_pb2.TASK_LOST,
        message=f"Agent {step.config.hostname} {what}",
        source=_Status.SOURCE_MASTER,
        reason=reason,
        agent_id=mesos_pb2.AgentID(value=step.state.agent_id),
        executor_id=mesos_pb2.ExecutorID(value=executor_id),
        timestamp=step.now.wall,
    )


def decorate(step: Step, status: mesos_pb2.TaskStatus, owner: Executor | None) -> mesos_pb2.TaskStatus:
    """The status as the scheduler gets it. `owner`: the executor whose task it is; None: nobody's."""
    decorated = mesos_pb2.TaskStatus()
    decorated.CopyFrom(status)
    decorated.source = _Status.SOURCE_EXECUTOR
    if not status.HasField("agent_id"):
        decorated.agent_id.value = step.state.agent_id
    if not status.HasField("timestamp"):
        decorated.timestamp = step.now.wall
    if owner is None:
        return decorated
    container = decorated.container_status
    if not container.HasField("container_id"):
        container.container_id.value = owner.container_id
    elif container.container_id.value != owner.container_id:
        # The agent knows no such container, so it has no address and no pid to add.
        return decorated
    if not container.network_infos:
        address = container.network_infos.add().ip_addresses.add()
        address.protocol = mesos_pb2.NetworkInfo.IPv4
        address.ip_address = step.config.ip
    if owner.pid:
        container.executor_pid = owner.pid
    return decorated
