"""LocalAgentService: requests in, answers out."""

# ruff: noqa: N802 - the contract names the methods

from __future__ import annotations

import asyncio
from functools import wraps
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from services.local_agent.core.model import ExecutorState
from services.local_agent.core.tasks import AlreadyLaunched, Killed, OrderRefused
from services.local_agent.remark_book import cut
from services.local_agent.scheduler import NotFound, NotReady
from trivet.agent.v1 import agent_pb2, agent_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from services.local_agent.agent import LocalAgent
    from services.local_agent.core.model import Executor
    from services.local_agent.remark_book import RemarkBook

    Context = grpc.aio.ServicerContext[Any, Any]

Q = TypeVar("Q")
A = TypeVar("A")
SERVICE_NAME = agent_pb2.DESCRIPTOR.services_by_name["LocalAgentService"].full_name
_STATES = {
    ExecutorState.REGISTERING: agent_pb2.EXECUTOR_STATE_REGISTERING,
    ExecutorState.RUNNING: agent_pb2.EXECUTOR_STATE_RUNNING,
    ExecutorState.TERMINATING: agent_pb2.EXECUTOR_STATE_TERMINATING,
    ExecutorState.TERMINATED: agent_pb2.EXECUTOR_STATE_TERMINATED,
}
_ENDED = "the agent has ended"
# The first type that fits decides.
_CODES: dict[type[Exception], grpc.StatusCode] = {
    AlreadyLaunched: grpc.StatusCode.ALREADY_EXISTS,
    OrderRefused: grpc.StatusCode.INVALID_ARGUMENT,
    NotFound: grpc.StatusCode.NOT_FOUND,
    NotReady: grpc.StatusCode.UNAVAILABLE,
}


def _answering(
    method: Callable[[Any, Q, Context], Awaitable[A]],
) -> Callable[[Any, Q, Context], Awaitable[A]]:
    """Refusals become status codes."""

    @wraps(method)
    async def run(self: object, request: Q, context: Context) -> A:
        try:
            return await method(self, request, context)
        except tuple(_CODES) as error:
            code = next(code for kind, code in _CODES.items() if isinstance(error, kind))
            await context.abort(code, str(error))

    return run


class LocalAgentServicer(agent_pb2_grpc.LocalAgentServiceServicer):  # type: ignore[misc]  # no stubs for gRPC code
    """Contract: protos/trivet/agent/v1/agent.proto."""

    def __init__(self, agent: LocalAgent) -> None:
        self._agent = agent
        self._scheduler = agent.scheduler

    @_answering
    async def LaunchTask(self, request: agent_pb2.LaunchTaskRequest, _: Context) -> agent_pb2.LaunchTaskResponse:
        """Returns when the executor's process runs."""
        launched, framework_id = await self._scheduler.launch(request)
        return agent_pb2.LaunchTaskResponse(
            framework_id=framework_id,
            agent_id=self._agent.state.agent_id,
            container_id=launched.container_id,
            sandbox=launched.sandbox,
            launch_written_at=launched.launch_written_at,
            failure=launched.failure,
        )

    @_answering
    async def LaunchTaskGroup(
        self, request: agent_pb2.LaunchTaskGroupRequest, _: Context
    ) -> agent_pb2.LaunchTaskGroupResponse:
        """All of them, or none."""
        launched, framework_id = await self._scheduler.launch_group(request)
        return agent_pb2.LaunchTaskGroupResponse(
            framework_id=framework_id,
            agent_id=self._agent.state.agent_id,
            container_id=launched.container_id,
            sandbox=launched.sandbox,
            launch_written_at=launched.launch_written_at,
            failure=launched.failure,
        )

    @_answering
    async def KillTask(self, request: agent_pb2.KillTaskRequest, _: Context) -> agent_pb2.KillTaskResponse:
        """Passes a KILL on."""
        policy = request.kill_policy if request.HasField("kill_policy") else None
        sent = self._scheduler.kill(request.task_id, policy) is Killed.SENT
        written_at = self._agent.state.inboxes[request.task_id].kill_written_at if sent else 0.0
        return agent_pb2.KillTaskResponse(sent=sent, written_at=written_at)

    @_answering
    async def ShutdownExecutor(
        self, request: agent_pb2.ShutdownExecutorRequest, _: Context
    ) -> agent_pb2.ShutdownExecutorResponse:
        """SHUTDOWN, and destroy after the grace period."""
        return agent_pb2.ShutdownExecutorResponse(
            sent=self._scheduler.shut_down(request.framework_id, request.executor_id)
        )

    @_answering
    async def SendMessage(self, request: agent_pb2.SendMessageRequest, _: Context) -> agent_pb2.SendMessageResponse:
        """MESSAGE to an executor."""
        sent = self._scheduler.message(request.framework_id, request.executor_id, request.data)
        return agent_pb2.SendMessageResponse(sent=sent)

    @_answering
    async def TearDown(self, request: agent_pb2.TearDownRequest, _: Context) -> agent_pb2.TearDownResponse:
        """Ends a framework."""
        self._scheduler.tear_down(request.framework_id)
        return agent_pb2.TearDownResponse()

    @_answering
    async def DrainAgent(self, request: agent_pb2.DrainAgentRequest, _: Context) -> agent_pb2.DrainAgentResponse:
        """KILL to every task."""
        grace = request.max_grace_period.nanoseconds if request.HasField("max_grace_period") else None
        if grace is not None and grace < 0:
            raise OrderRefused("max_grace_period", "must not be negative")
        return agent_pb2.DrainAgentResponse(task_ids=self._scheduler.drain(grace))

    @_answering
    async def SetBehavior(self, request: agent_pb2.SetBehaviorRequest, _: Context) -> agent_pb2.SetBehaviorResponse:
        """At any time."""
        self._scheduler.behave(
            scheduler_acknowledges=(
                request.scheduler_acknowledges if request.HasField("scheduler_acknowledges") else None
            ),
            master_connected=request.master_connected if request.HasField("master_connected") else None,
        )
        return agent_pb2.SetBehaviorResponse()

    @_answering
    async def AcknowledgeUpdate(
        self, request: agent_pb2.AcknowledgeUpdateRequest, _: Context
    ) -> agent_pb2.AcknowledgeUpdateResponse:
        """What waits, or one update."""
        return agent_pb2.AcknowledgeUpdateResponse(uuid=self._scheduler.acknowledge(request.task_id, request.uuid))

    @_answering
    async def ListExecutors(
        self, _request: agent_pb2.ListExecutorsRequest, _: Context
    ) -> agent_pb2.ListExecutorsResponse:
        """Those that run, and the last ones that ended."""
        state = self._agent.state
        remarks = self._agent.remarks
        return agent_pb2.ListExecutorsResponse(
            executors=[_executor(executor, remarks) for executor in (*state.executors(), *state.ended)],
            refusals=_refusals(remarks, ""),
        )

    async def WatchTask(
        self, request: agent_pb2.WatchTaskRequest, context: Context
    ) -> AsyncIterator[agent_pb2.WatchTaskResponse]:
        """NOT_FOUND: no task of that id was ever launched here. UNAVAILABLE: the agent ends."""
        try:
            self._scheduler.require_task(request.task_id)
        except NotFound as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        inbox = self._agent.state.inboxes[request.task_id]
        position = 0
        while True:
            # Taken before the statuses are looked at: nothing that comes meanwhile is missed.
            change = self._scheduler.changed(request.task_id)
            if self._scheduler.unwritten:
                # The newest may be in no log.
                await context.abort(grpc.StatusCode.UNAVAILABLE, _ENDED)
            position = max(position, inbox.forgotten)
            for entry in list(islice(inbox.received, position - inbox.forgotten, None)):
                position += 1
                yield agent_pb2.WatchTaskResponse(
                    status=entry.status,
                    received_at=entry.at,
                    launch_written_at=inbox.launch_written_at,
                    kill_written_at=inbox.kill_written_at,
                )
            # Between two answers more may have come, for which nobody will call again.
            if position >= inbox.forgotten + len(inbox.received):
                if self._scheduler.ended.done():
                    # Not left to the server's end, which would cancel this and complain about it.
                    await context.abort(grpc.StatusCode.UNAVAILABLE, _ENDED)
                await asyncio.wait([change, self._scheduler.ended], return_when=asyncio.FIRST_COMPLETED)

    async def WatchMessages(
        self, request: agent_pb2.WatchMessagesRequest, context: Context
    ) -> AsyncIterator[agent_pb2.WatchMessagesResponse]:
        """From now on, for a framework that need not be known yet. UNAVAILABLE: the agent ends."""
        queue = self._scheduler.watch_messages(request.framework_id)
        try:
            # So that a caller knows from when on.
            await context.send_initial_metadata(())
            while not self._scheduler.ended.done() or not queue.empty():
                entry = await queue.get()
                if entry is None:
                    break
                message, at = entry
                yield agent_pb2.WatchMessagesResponse(
                    executor_id=message.executor_id, data=message.data, received_at=at
                )
        finally:
            self._scheduler.unwatch_messages(request.framework_id, queue)
        await context.abort(grpc.StatusCode.UNAVAILABLE, _ENDED)


def _executor(executor: Executor, remarks: RemarkBook) -> agent_pb2.Executor:
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
        launch_failure=executor.launch_failure,
        refusals=_refusals(remarks, executor.container_id),
        ignored_updates=[
            agent_pb2.IgnoredUpdate(at=at, task_id=cut(one.task_id), state=one.state, reason=one.reason)
            for at, one in remarks.ignored(executor.container_id)
        ],
    )


def _refusals(remarks: RemarkBook, container_id: str) -> list[agent_pb2.Refusal]:
    return [
        agent_pb2.Refusal(
            at=at,
            call=cut(one.call),
            status=one.status,
            body=cut(one.body),
            framework_id=cut(one.framework_id),
            executor_id=cut(one.executor_id),
        )
        for at, one in remarks.refusals(container_id)
    ]
