"""State after a record: the only place where it changes, so that a replayed log gives the same state."""

from __future__ import annotations

from collections import deque
from functools import singledispatch
from typing import TYPE_CHECKING

from mesos.v1 import mesos_pb2
from services.local_agent.core import forget, records, restore
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


# The agent.


@_apply.register
def _(record: records.AgentStarted, state: AgentState) -> None:
    state.agent_id, state.boot_id, state.port = record.agent_id, record.boot_id, record.port
    state.starts += 1
    for executor in state.executors():
        _move(executor, ExecutorInput.AGENT_STARTED)
        executor.stream = None
        executor.termination = None
        for task in executor.tasks.values():
            # A restarted agent cannot tell whether it had delivered them (Mesos: restart-before-subscribe).
            task.delivered = True


@_apply.register
def _(_record: records.AgentRetired, state: AgentState) -> None:
    state.agent_id = ""
    for executor in state.executors():
        executor.state = ExecutorState.TERMINATED
        forget.tasks_of(state, executor)
    state.unowned.clear()
    state.unowned_frameworks.clear()
    state.leaving = False


@_apply.register
def _(_record: records.AgentLeaving, state: AgentState) -> None:
    state.leaving = True


@_apply.register
def _(record: records.StatusHeld, state: AgentState) -> None:
    state.held.append(mesos_pb2.TaskStatus.FromString(record.status))


@_apply.register
def _(_record: records.HeldReleased, state: AgentState) -> None:
    state.held.clear()


@_apply.register
def _(record: records.AgentDraining, state: AgentState) -> None:
    # Without executors it is over at once.
    state.draining = bool(state.containers)
    state.drain_grace = record.max_grace if record.max_grace >= 0 else None


@_apply.register
def _(record: records.BehaviorSet, state: AgentState) -> None:
    state.scheduler_acknowledges, state.master_connected = record.scheduler_acknowledges, record.master_connected


# Frameworks and executors.


@_apply.register
def _(record: records.FrameworkUpdated, state: AgentState) -> None:
    info = mesos_pb2.FrameworkInfo.FromString(record.info)
    framework = state.frameworks.get(record.framework_id)
    if framework is None:
        state.frameworks[record.framework_id] = Framework(record.framework_id, info)
        state.frameworks_made += 1
        forget.oldest_frameworks(state)
    else:
        framework.info = info


@_apply.register
def _(record: records.FrameworkTornDown, state: AgentState) -> None:
    framework = state.frameworks[record.framework_id]
    framework.torn_down = True
    for executor in list(framework.executors.values()):
        for task in executor.tasks.values():
            task.queue.clear()
        if executor.state is ExecutorState.TERMINATED:
            forget.tasks_of(state, executor)
    forget.unowned_of(state, record.framework_id)
    forget.framework_if_over(state, framework)


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
        executor.termination = Termination(record.state, record.reason, record.message, record.limitation)


@_apply.register
def _(record: records.ContainerExited, state: AgentState) -> None:
    executor = state.containers[record.container_id]
    _move(executor, ExecutorInput.EXITED)
    executor.exit_code = record.exit_code if record.exit_code >= 0 else None
    executor.exit_signal = record.exit_signal if record.exit_signal >= 0 else None
    if state.frameworks[executor.framework_id].torn_down:
        # Nobody is left who could acknowledge anything.
        forget.tasks_of(state, executor)
    else:
        forget.executor_if_over(state, executor)


@_apply.register
def _(record: records.ExecutorForgotten, state: AgentState) -> None:
    executor = state.containers[record.container_id]
    executor.state = ExecutorState.TERMINATED
    forget.tasks_of(state, executor)


# Tasks and their statuses.


@_apply.register
def _(record: records.TaskAdded, state: AgentState) -> None:
    info = mesos_pb2.TaskInfo.FromString(record.info)
    state.containers[record.container_id].tasks[record.task_id] = Task(record.task_id, info, record.group)
    state.inboxes.setdefault(record.task_id, Inbox())
    state.ended_tasks.pop(record.task_id, None)


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
def _(record: records.UnownedAccepted, state: AgentState) -> None:
    status = mesos_pb2.TaskStatus.FromString(record.status)
    state.unowned.setdefault(record.task_id, deque()).append(status)
    state.unowned_frameworks.setdefault(record.task_id, deque()).append(record.framework_id)


@_apply.register
def _(record: records.UpdateReceived, state: AgentState) -> None:
    inbox = state.inboxes.get(record.task_id)
    if inbox is None:
        # Of a task that was never launched here.
        inbox = state.inboxes[record.task_id] = Inbox()
        state.ended_tasks[record.task_id] = None
    size = len(record.status)
    inbox.received.append(Received(mesos_pb2.TaskStatus.FromString(record.status), record.at, size))
    inbox.size += size
    forget.oldest_received(inbox)
    if record.task_id in state.ended_tasks:
        forget.task_ended(state, record.task_id)


@_apply.register
def _(record: records.UpdateAcknowledged, state: AgentState) -> None:
    if not record.container_id:
        state.unowned[record.task_id].popleft()
        state.unowned_frameworks[record.task_id].popleft()
        forget.unowned_if_over(state, record.task_id)
        return
    executor = state.containers[record.container_id]
    task = executor.tasks[record.task_id]
    acknowledged = task.queue.popleft()
    if task.terminal and not task.queue and acknowledged.state == task.state:
        del executor.tasks[record.task_id]
        forget.task_ended(state, record.task_id)
        forget.executor_if_over(state, executor)


# A compacted log.

for _kind, _rule in restore.RULES.items():
    _apply.register(_kind, _rule)


def _move(executor: Executor, event: ExecutorInput) -> None:
    executor.state = EXECUTOR_TRANSITIONS[executor.state, event]
