"""The fewest records that give a state: what a compacted log begins with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.local_agent.core import records, snapshot_records

if TYPE_CHECKING:
    from collections.abc import Iterator

    from services.local_agent.core.model import AgentState, Executor


def records_of(state: AgentState) -> Iterator[records.Record]:
    """Applied to an empty state they give `state`, except for what is never in the log."""
    yield snapshot_records.StateRestored(
        state.agent_id,
        state.boot_id,
        state.port,
        state.starts,
        state.frameworks_made,
        state.scheduler_acknowledges,
        state.master_connected,
        state.draining,
        -1 if state.drain_grace is None else state.drain_grace,
        tuple(state.torn_down),
        state.leaving,
    )
    for held in state.held:
        yield records.StatusHeld(held.SerializeToString())
    for framework in state.frameworks.values():
        yield snapshot_records.FrameworkRestored(
            framework.framework_id, framework.info.SerializeToString(), framework.torn_down
        )
    for executor in state.ended:
        yield _executor(executor, ended=True)
    for executor in state.containers.values():
        yield _executor(executor, ended=False)
        yield from _tasks(executor)
    for task_id, queue in state.unowned.items():
        for framework_id, status in zip(state.unowned_frameworks[task_id], queue, strict=True):
            yield snapshot_records.QueuedRestored("", task_id, status.SerializeToString(), framework_id)
    yield from _inboxes(state)


def _executor(executor: Executor, *, ended: bool) -> snapshot_records.ExecutorRestored:
    termination = executor.termination
    return snapshot_records.ExecutorRestored(
        executor.container_id,
        executor.framework_id,
        executor.executor_id,
        executor.info.SerializeToString(),
        executor.sandbox,
        executor.launched_at,
        executor.state.value,
        executor.pid,
        executor.start_ticks,
        executor.boot_id,
        executor.subscribed_at,
        executor.reported,
        termination.state if termination else 0,
        termination.reason if termination else 0,
        termination.message if termination else "",
        termination.limitation if termination else b"",
        -1 if executor.exit_code is None else executor.exit_code,
        -1 if executor.exit_signal is None else executor.exit_signal,
        ended,
    )


def _tasks(executor: Executor) -> Iterator[records.Record]:
    for task in executor.tasks.values():
        yield snapshot_records.TaskRestored(
            executor.container_id,
            task.task_id,
            task.info.SerializeToString(),
            task.group,
            task.delivered,
            task.state,
            b"".join(sorted(task.seen)),
        )
        for status in task.queue:
            yield snapshot_records.QueuedRestored(executor.container_id, task.task_id, status.SerializeToString())


def _inboxes(state: AgentState) -> Iterator[records.Record]:
    # In the order in which they will be forgotten.
    living = [task_id for task_id in state.inboxes if task_id not in state.ended_tasks]
    for task_id in (*state.ended_tasks, *living):
        inbox = state.inboxes[task_id]
        yield snapshot_records.InboxRestored(
            task_id,
            inbox.launch_written_at,
            inbox.kill_written_at,
            inbox.forgotten,
            task_id in state.ended_tasks,
        )
        for entry in inbox.received:
            yield records.UpdateReceived(task_id, entry.status.SerializeToString(), entry.at)
