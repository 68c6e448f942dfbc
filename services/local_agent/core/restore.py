"""State from the records of a compacted log. Parts of `evolve`."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from mesos.v1 import mesos_pb2
from services.local_agent.core import snapshot_records
from services.local_agent.core.model import (
    AgentState,
    Executor,
    ExecutorState,
    Framework,
    Inbox,
    Task,
    Termination,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def _state(record: snapshot_records.StateRestored, state: AgentState) -> None:
    state.agent_id, state.boot_id, state.port = record.agent_id, record.boot_id, record.port
    state.starts, state.frameworks_made = record.starts, record.frameworks_made
    state.scheduler_acknowledges, state.master_connected = record.scheduler_acknowledges, record.master_connected
    state.draining, state.drain_grace = record.draining, record.drain_grace if record.drain_grace >= 0 else None
    state.torn_down = dict.fromkeys(record.torn_down)
    state.leaving = record.leaving


def _framework(record: snapshot_records.FrameworkRestored, state: AgentState) -> None:
    info = mesos_pb2.FrameworkInfo.FromString(record.info)
    state.frameworks[record.framework_id] = Framework(record.framework_id, info, torn_down=record.torn_down)


def _executor(record: snapshot_records.ExecutorRestored, state: AgentState) -> None:
    executor = Executor(
        record.framework_id,
        record.executor_id,
        record.container_id,
        mesos_pb2.ExecutorInfo.FromString(record.info),
        record.sandbox,
        record.launched_at,
        ExecutorState(record.state),
        record.pid,
        record.start_ticks,
        record.boot_id,
        record.subscribed_at,
        reported=record.reported,
    )
    if record.termination_message:
        executor.termination = Termination(
            record.termination_state,
            record.termination_reason,
            record.termination_message,
            record.termination_limitation,
        )
    executor.exit_code = record.exit_code if record.exit_code >= 0 else None
    executor.exit_signal = record.exit_signal if record.exit_signal >= 0 else None
    if record.ended:
        state.ended.append(executor)
    else:
        state.containers[record.container_id] = executor
        state.frameworks[record.framework_id].executors[record.executor_id] = executor


def _task(record: snapshot_records.TaskRestored, state: AgentState) -> None:
    task = Task(
        record.task_id, mesos_pb2.TaskInfo.FromString(record.info), record.group, record.delivered, record.state
    )
    task.seen = {record.seen[at : at + 16] for at in range(0, len(record.seen), 16)}
    state.containers[record.container_id].tasks[record.task_id] = task


def _queued(record: snapshot_records.QueuedRestored, state: AgentState) -> None:
    status = mesos_pb2.TaskStatus.FromString(record.status)
    if record.container_id:
        state.containers[record.container_id].tasks[record.task_id].queue.append(status)
    else:
        state.unowned.setdefault(record.task_id, deque()).append(status)
        state.unowned_frameworks.setdefault(record.task_id, deque()).append(record.framework_id)


def _inbox(record: snapshot_records.InboxRestored, state: AgentState) -> None:
    inbox = Inbox(forgotten=record.forgotten)
    inbox.launch_written_at, inbox.kill_written_at = record.launch_written_at, record.kill_written_at
    state.inboxes[record.task_id] = inbox
    if record.over:
        state.ended_tasks[record.task_id] = None


RULES: dict[type, Callable[[Any, AgentState], None]] = {
    snapshot_records.StateRestored: _state,
    snapshot_records.FrameworkRestored: _framework,
    snapshot_records.ExecutorRestored: _executor,
    snapshot_records.TaskRestored: _task,
    snapshot_records.QueuedRestored: _queued,
    snapshot_records.InboxRestored: _inbox,
}
