"""RunnerService: gRPC in and out, no logic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from services.common.watch import SlowSubscriber
from services.runner.queries import BadRequest, NotRecorded, RunnerError, UnknownTask
from trivet.runner.v1 import runner_pb2, runner_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.common.attach import AttachHub
    from services.common.watch import Broadcast
    from services.runner.queries import Queries

    Context = grpc.aio.ServicerContext[Any, Any]

# Error of the domain -> status. What is not in here is a defect and becomes UNKNOWN.
CODES: dict[type[Exception], grpc.StatusCode] = {
    UnknownTask: grpc.StatusCode.NOT_FOUND,
    BadRequest: grpc.StatusCode.INVALID_ARGUMENT,
    NotRecorded: grpc.StatusCode.UNAVAILABLE,
    SlowSubscriber: grpc.StatusCode.RESOURCE_EXHAUSTED,
}


class AttachServicer(runner_pb2_grpc.RunnerServiceServicer):  # type: ignore[misc]
    """What drivers may call."""

    def __init__(self) -> None:
        # Set when the state has been replayed; the socket gets its public name only then.
        self.hub: AttachHub[runner_pb2.AttachRequest, runner_pb2.AttachResponse] | None = None

    async def Attach(self, request_iterator: object, context: Context) -> None:  # noqa: N802, ARG002 - gRPC's
        """A driver's stream."""
        if self.hub is None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the service is starting")
        else:
            await self.hub.serve(context)


class AdminServicer(runner_pb2_grpc.RunnerServiceServicer):  # type: ignore[misc]
    """What operators may call."""

    def __init__(self, queries: Queries, watchers: Broadcast[runner_pb2.WatchTasksResponse]) -> None:
        self._queries = queries
        self._watchers = watchers

    async def ListTasks(  # noqa: N802 - gRPC's name
        self, request: runner_pb2.ListTasksRequest, context: Context
    ) -> runner_pb2.ListTasksResponse:
        """Live and ended tasks."""
        try:
            return self._queries.page(request.page_size, request.page_token, active_only=request.active_only)
        except RunnerError as error:
            await _abort(context, error)
            raise

    async def GetTask(  # noqa: N802 - gRPC's name
        self, request: runner_pb2.GetTaskRequest, context: Context
    ) -> runner_pb2.GetTaskResponse:
        """One task with all its runs."""
        try:
            return self._queries.get(request.task_id)
        except RunnerError as error:
            await _abort(context, error)
            raise

    async def KillTask(  # noqa: N802 - gRPC's name
        self, request: runner_pb2.KillTaskRequest, context: Context
    ) -> runner_pb2.KillTaskResponse:
        """Ends a task in order."""
        grace = request.grace_secs if request.HasField("grace_secs") else None
        try:
            return runner_pb2.KillTaskResponse(state=self._queries.kill(request.task_id, grace))
        except RunnerError as error:
            await _abort(context, error)
            raise

    async def WatchTasks(  # noqa: N802 - gRPC's name
        self, request: runner_pb2.WatchTasksRequest, context: Context
    ) -> AsyncIterator[runner_pb2.WatchTasksResponse]:
        """Snapshot, then changes."""
        try:
            # A list: what is published while the first items are sent is not in it, and comes after it.
            async for event in self._watchers.subscribe(list(self._queries.snapshot(request.task_id))):
                if _concerns(event, request.task_id):
                    yield event
        except SlowSubscriber as error:
            await _abort(context, error)


def _concerns(event: runner_pb2.WatchTasksResponse, task_id: str) -> bool:
    """Whether a watch of `task_id` (empty: of all) tells the event. The mark of the snapshot's end is for everybody."""
    kind = event.WhichOneof("event")
    if not task_id or kind == "snapshot":
        return True
    key = event.task.state.key if kind == "task" else event.process.key
    return key.task_id == task_id


async def _abort(context: Context, error: Exception) -> None:
    await context.abort(CODES[type(error)], str(error))
