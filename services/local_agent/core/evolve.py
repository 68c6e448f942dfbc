"""State after a record: the only place where it changes, so that a replayed log gives the same state."""

from __future__ import annotations

from functools import singledispatch
from typing import TYPE_CHECKING

from mesos.v1 import mesos_pb2
from services.local_agent.core import records
from services.local_agent.core.model import (
    EXECUTOR_TRANSITIONS,
    AgentState,
    Executor,
    ExecutorInput,
    ExecutorState,
    Framework,
    Inbox,
    Received,
    Task,
    Termination,
)

if TYPE_CHECKING:
    from services.local_agent.core.records import Record


def apply(state: AgentState, record: Record) -> None:
    """Changes `state` by one fact."""
    _apply(record, state)


@singledispatch
def _apply(record: Record, _state: AgentState) -> None:
    raise TypeError(f"no rule for {type(record).__name__}")


@_apply.register
def _(record: records.AgentStarted, state: AgentState) -> None:
    state.agent_id, state.boot_id, state.port = record.agent_id, record.boot_id, record.port
    for executor in state.executors():
        _move(executor, ExecutorInput.AGENT_STARTED)
        executor.stream = None
        executor.termination = None
        for task in executor.tasks.values():
            # A restarted agent cannot tell whether it had delivered them (Mesos: restart-before-subscribe).
            task.delivered = True


@_apply.register
def _(record: records.FrameworkUpdated, state: AgentState) -> None:
    info = mesos_pb2.FrameworkInfo.FromString(record.info)
    framework = state.frameworks.get(record.framework_id)
    if framework is None:
        state.frameworks[record.framework_id] = Framework(record.framework_id, info)
    else:
        framework.info = info


@_apply.register
def _(record: records.ExecutorAdded, state: AgentState) -> None:
    executor = Executor(
        record.framework_id,
        record.executor_id,
        record.container_id,
        mesos_pb2.ExecutorInfo.FromString(record.info),
        record.sandbox,
        record.at,
    )
    state.containers[record.container_id] = executor
    state.frameworks[record.framework_id].executors[record.executor_id] = executor


@_apply.register
def _(record: records.ContainerForked, state: AgentState) -> None:
    executor = state.containers[record.container_id]
    executor.pid, executor.start_ticks, executor.boot_id = record.pid, record.start_ticks, state.boot_id


@_apply.register
def _(record: records.ExecutorSubscribed, state: AgentState) -> None:
    executor = state.containers[record.container_id]
    _move(executor, ExecutorInput.SUBSCRIBED)
    executor.subscribed_at = record.at


@_apply.register
def _(record: records.ExecutorTerminating, state: AgentState) -> None:
    executor = state.containers[record.container_id]
    _move(executor, ExecutorInput.ORDERED_TO_END)
    if record.message:
        executor.termination = Termination(record.state, record.reason, record.message)


@_apply.register
def _(record: records.ContainerExited, state: AgentState) -> None:
    executor = state.containers[record.container_id]
    _move(executor, ExecutorInput.EXITED)
    executor.exit_code = record.exit_code if record.exit_code >= 0 else None
    executor.exit_signal = record.exit_signal if record.exit_signal >= 0 else None
    _remove_if_over(state, executor)


@_apply.register
def _(record: records.ExecutorForgotten, state: AgentState) -> None:
    executor = state.containers[record.container_id]
    executor.state = ExecutorState.TERMINATED
    executor.tasks.clear()
    _remove_if_over(state, executor)


@_apply.register
def _(record: records.TaskAdded, state: AgentState) -> None:
    info = mesos_pb2.TaskInfo.FromString(record.info)
    state.containers[record.container_id].tasks[record.task_id] = Task(record.task_id, info)
    state.inboxes.setdefault(record.task_id, Inbox())


@_apply.register
def _(record: records.TaskDelivered, state: AgentState) -> None:
    state.containers[record.container_id].tasks[record.task_id].delivered = True
    state.inboxes[record.task_id].launch_written_at = record.at


@_apply.register
def _(record: records.KillDelivered, state: AgentState) -> None:
    state.inboxes[record.task_id].kill_written_at = record.at


@_apply.register
def _(record: records.UpdateAccepted, state: AgentState) -> None:
    executor = state.containers[record.container_id]
    task = executor.tasks[record.task_id]
    status = mesos_pb2.TaskStatus.FromString(record.status)
    task.state = status.state
    task.queue.append(status)
    task.seen.add(status.uuid)
    executor.reported = executor.reported or record.from_executor


@_apply.register
def _(record: records.UpdateReceived, state: AgentState) -> None:
    inbox = state.inboxes.setdefault(record.task_id, Inbox())
    inbox.received.append(Received(mesos_pb2.TaskStatus.FromString(record.status), record.at))


@_apply.register
def _(record: records.UpdateAcknowledged, state: AgentState) -> None:
    executor = state.containers[record.container_id]
    task = executor.tasks[record.task_id]
    acknowledged = task.queue.popleft()
    if task.terminal and not task.queue and acknowledged.state == task.state:
        del executor.tasks[record.task_id]
        _remove_if_over(state, executor)


def _move(executor: Executor, event: ExecutorInput) -> None:
    executor.state = EXECUTOR_TRANSITIONS[executor.state, event]


def _remove_if_over(state: AgentState, executor: Executor) -> None:
    """Once the process is gone and the scheduler knows the end of every task, nobody finds the executor any more."""
    if executor.state is not ExecutorState.TERMINATED or executor.tasks:
        return
    del state.containers[executor.container_id]
    del state.frameworks[executor.framework_id].executors[executor.executor_id]
    state.ended.append(executor)
