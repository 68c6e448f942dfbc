"""Follows one task: its statuses at the agent, its processes at the runner."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from services.cli.clients import answered, resumed
from services.cli.events import TERMINAL_STATES, Event, Statuses, Transitions
from trivet.agent.v1 import agent_pb2, agent_pb2_grpc
from trivet.link.v1 import link_pb2
from trivet.runner.v1 import runner_pb2, runner_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from mesos.v1 import mesos_pb2

_CALL_SECS = 10.0
_OVER = frozenset(
    {
        link_pb2.TASK_PHASE_SUCCESS,
        link_pb2.TASK_PHASE_FAILED,
        link_pb2.TASK_PHASE_KILLED,
        link_pb2.TASK_PHASE_LOST,
    }
)


async def follow_statuses(
    channel: grpc.aio.Channel, task_id: str, show: Callable[[Event], None]
) -> mesos_pb2.TaskStatus:
    """Shows every status update once.

    Returns:
        The terminal one.

    Raises:
        grpc.aio.AioRpcError: the agent does not know the task.
    """
    stub = agent_pb2_grpc.LocalAgentServiceStub(channel)
    request = agent_pb2.WatchTaskRequest(task_id=task_id)
    statuses = Statuses()
    updates: AsyncIterator[agent_pb2.WatchTaskResponse] = resumed(lambda: stub.WatchTask(request, wait_for_ready=True))
    async for update in updates:
        event = statuses.observe(update.status)
        if event is not None:
            show(event)
        if update.status.state in TERMINAL_STATES:
            return update.status
    raise AssertionError("a resumed stream has no end")


async def follow_processes(channel: grpc.aio.Channel, task_id: str, show: Callable[[Event], None]) -> None:
    """Shows every transition of every process once; returns when the runner says that the task is over.

    Each time the watch is opened, the runner tells what is true now; what happened in between is in the runs' times.

    Raises:
        grpc.aio.AioRpcError: the runner refuses the calls.
    """
    stub = runner_pb2_grpc.RunnerServiceStub(channel)
    request = runner_pb2.WatchTasksRequest(task_id=task_id)
    transitions = Transitions()
    events: AsyncIterator[runner_pb2.WatchTasksResponse] = resumed(
        lambda: stub.WatchTasks(request, wait_for_ready=True)
    )
    async for event in events:
        if event.WhichOneof("event") == "process":
            if event.process.key.task_id == task_id:
                _show_all(transitions.observe([event.process.run]), show)
        elif event.WhichOneof("event") == "task" and event.task.state.key.task_id == task_id:
            _show_all(transitions.observe(await _all_runs(stub, event.task)), show)
            if event.task.state.phase in _OVER:
                return


async def _all_runs(stub: runner_pb2_grpc.RunnerServiceStub, task: runner_pb2.Task) -> list[runner_pb2.ProcessRun]:
    """Every run of every process; those of a task that is only kept as a summary are its newest ones."""
    request = runner_pb2.GetTaskRequest(task_id=task.state.key.task_id)
    try:
        whole: runner_pb2.GetTaskResponse = await answered(
            lambda: stub.GetTask(request, wait_for_ready=True, timeout=_CALL_SECS)
        )
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            raise
        return list(task.processes)
    return [*whole.runs, *task.processes]


def _show_all(events: list[Event], show: Callable[[Event], None]) -> None:
    for event in events:
        show(event)
