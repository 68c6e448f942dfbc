"""LocalAgentService: requests in, answers out."""

# ruff: noqa: N802 - the contract names the methods

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc

from services.local_agent.agent import NotReady
from services.local_agent.core.model import ExecutorState
from services.local_agent.core.tasks import AlreadyLaunched, Killed, OrderRefused
from trivet.agent.v1 import agent_pb2, agent_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.local_agent.agent import LocalAgent
    from services.local_agent.core.model import Executor

    Context = grpc.aio.ServicerContext[Any, Any]

SERVICE_NAME = agent_pb2.DESCRIPTOR.services_by_name["LocalAgentService"].full_name
_STATES = {
    ExecutorState.REGISTERING: agent_pb2.EXECUTOR_STATE_REGISTERING,
    ExecutorState.RUNNING: agent_pb2.EXECUTOR_STATE_RUNNING,
    ExecutorState.TERMINATING: agent_pb2.EXECUTOR_STATE_TERMINATING,
    ExecutorState.TERMINATED: agent_pb2.EXECUTOR_STATE_TERMINATED,
}


class LocalAgentServicer(agent_pb2_grpc.LocalAgentServiceServicer):  # type: ignore[misc]  # no stubs for gRPC code
    """Contract: protos/trivet/agent/v1/agent.proto."""

    def __init__(self, agent: LocalAgent) -> None:
        self._agent = agent

    async def LaunchTask(self, request: agent_pb2.LaunchTaskRequest, context: Context) -> agent_pb2.LaunchTaskResponse:
        """UNAVAILABLE while the agent recovers; INVALID_ARGUMENT names the field; ALREADY_EXISTS: the id is in use."""
        try:
            launched, framework_id = await self._agent.launch(request)
        except NotReady as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        except AlreadyLaunched as error:
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, str(error))
        except OrderRefused as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return agent_pb2.LaunchTaskResponse(
            framework_id=framework_id,
            agent_id=self._agent.state.agent_id,
            container_id=launched.container_id,
            sandbox=launched.sandbox,
            launch_written_at=launched.launch_written_at,
        )

    async def KillTask(self, request: agent_pb2.KillTaskRequest, context: Context) -> agent_pb2.KillTaskResponse:
        """NOT_FOUND: no task of that id was ever launched here."""
        await self._require_task(request.task_id, context)
        policy = request.kill_policy if request.HasField("kill_policy") else None
        try:
            killed = self._agent.kill(request.task_id, policy)
        except NotReady as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        sent = killed is Killed.SENT
        written_at = self._agent.state.inboxes[request.task_id].kill_written_at if sent else 0.0
        return agent_pb2.KillTaskResponse(sent=sent, written_at=written_at)

    async def ShutdownExecutor(
        self, request: agent_pb2.ShutdownExecutorRequest, context: Context
    ) -> agent_pb2.ShutdownExecutorResponse:
        """NOT_FOUND: no such executor, or it is over."""
        executor = self._agent.state.executor(request.framework_id, request.executor_id)
        if executor is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "framework_id, executor_id: no such executor")
        try:
            return agent_pb2.ShutdownExecutorResponse(sent=self._agent.shut_down(executor))
        except NotReady as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))

    async def WatchTask(
        self, request: agent_pb2.WatchTaskRequest, context: Context
    ) -> AsyncIterator[agent_pb2.WatchTaskResponse]:
        """NOT_FOUND: no task of that id was ever launched here. Ends with the agent only."""
        await self._require_task(request.task_id, context)
        inbox = self._agent.state.inboxes[request.task_id]
        position = 0
        while True:
            # Taken before the list is looked at: nothing that comes meanwhile is missed.
            change = self._agent.changed(request.task_id)
            while position < len(inbox.received):
                entry = inbox.received[position]
                position += 1
                yield agent_pb2.WatchTaskResponse(
                    status=entry.status,
                    received_at=entry.at,
                    launch_written_at=inbox.launch_written_at,
                    kill_written_at=inbox.kill_written_at,
                )
            await asyncio.shield(change)

    async def ListExecutors(
        self, request: agent_pb2.ListExecutorsRequest, context: Context
    ) -> agent_pb2.ListExecutorsResponse:
        """Those that run, and the last ones that ended."""
        del request, context
        state = self._agent.state
        return agent_pb2.ListExecutorsResponse(executors=map(_executor, (*state.executors(), *state.ended)))

    async def _require_task(self, task_id: str, context: Context) -> None:
        if task_id not in self._agent.state.inboxes:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"task_id: no task {task_id!r}")


def _executor(executor: Executor) -> agent_pb2.Executor:
    return agent_pb2.Executor(
        framework_id=executor.framework_id,
        executor_id=executor.executor_id,
        container_id=executor.container_id,
        state=_STATES[executor.state],
        sandbox=executor.sandbox,
        pid=executor.pid,
        task_ids=list(executor.tasks),
        launched_at=executor.launched_at,
        subscribed_at=executor.subscribed_at,
        exit_code=executor.exit_code,
        exit_signal=executor.exit_signal,
    )
