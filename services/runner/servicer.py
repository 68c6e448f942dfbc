"""RunnerService: gRPC in and out, no logic."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from services.common.watch import SlowSubscriber
from services.runner import logs, usage
from services.runner.errors import (
    AmbiguousTask,
    BadRequest,
    Busy,
    DamagedTask,
    ExecutorAway,
    ExecutorGone,
    LogRefused,
    NoSuchLog,
    NotRecorded,
    RunnerError,
    UnknownTask,
)
from services.runner.filters import Choice
from trivet.runner.v1 import runner_pb2, runner_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from services.common.attach import AttachHub
    from services.common.watch import Broadcast
    from services.runner.logs import LogDesk
    from services.runner.queries import Queries
    from services.runner.usage import UsageDesk

    Context = grpc.aio.ServicerContext[Any, Any]

T = TypeVar("T")

# Error of the domain -> status. What is not in here is a defect and becomes UNKNOWN.
CODES: dict[type[Exception], grpc.StatusCode] = {
    UnknownTask: grpc.StatusCode.NOT_FOUND,
    AmbiguousTask: grpc.StatusCode.FAILED_PRECONDITION,
    DamagedTask: grpc.StatusCode.DATA_LOSS,
    BadRequest: grpc.StatusCode.INVALID_ARGUMENT,
    NotRecorded: grpc.StatusCode.UNAVAILABLE,
    ExecutorAway: grpc.StatusCode.UNAVAILABLE,
    ExecutorGone: grpc.StatusCode.FAILED_PRECONDITION,
    NoSuchLog: grpc.StatusCode.NOT_FOUND,
    LogRefused: grpc.StatusCode.FAILED_PRECONDITION,
    Busy: grpc.StatusCode.RESOURCE_EXHAUSTED,
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

    def __init__(
        self,
        queries: Queries,
        watchers: Broadcast[runner_pb2.WatchTasksResponse],
        usage_desk: UsageDesk,
        log_desk: LogDesk,
    ) -> None:
        self._queries = queries
        self._watchers = watchers
        self._usage = usage_desk
        self._logs = log_desk

    async def ListTasks(  # noqa: N802 - gRPC's name
        self, request: runner_pb2.ListTasksRequest, context: Context
    ) -> runner_pb2.ListTasksResponse:
        """Live and ended tasks."""
        return await _answer(context, lambda: self._queries.page(request))

    async def GetTask(  # noqa: N802 - gRPC's name
        self, request: runner_pb2.GetTaskRequest, context: Context
    ) -> runner_pb2.GetTaskResponse:
        """One task with all its runs."""
        names = (request.task_id, request.executor_id, request.framework_id)
        book = await _answer(context, lambda: self._queries.find(*names))
        if book is not None and request.usage:
            await self._usage.fresh(book.key)
        response = await _answer(context, lambda: self._queries.get(*names))
        newest = None if book is None else self._usage.newest(book.key)
        if newest is not None:
            response.usage.CopyFrom(newest)
        return response

    async def KillTask(  # noqa: N802 - gRPC's name
        self, request: runner_pb2.KillTaskRequest, context: Context
    ) -> runner_pb2.KillTaskResponse:
        """Ends a task in order."""
        grace = request.grace_secs if request.HasField("grace_secs") else None
        state = await _answer(
            context,
            lambda: self._queries.kill(request.task_id, grace, request.executor_id, request.framework_id),
        )
        return runner_pb2.KillTaskResponse(state=state)

    async def LoseTask(  # noqa: N802 - gRPC's name
        self, request: runner_pb2.LoseTaskRequest, context: Context
    ) -> runner_pb2.LoseTaskResponse:
        """Gives a task up."""
        state = await _answer(
            context, lambda: self._queries.lose(request.task_id, request.executor_id, request.framework_id)
        )
        return runner_pb2.LoseTaskResponse(state=state)

    async def WatchUsage(  # noqa: N802 - gRPC's name
        self, request: runner_pb2.WatchUsageRequest, context: Context
    ) -> AsyncIterator[runner_pb2.WatchUsageResponse]:
        """What tasks use, as it is sampled."""
        names = (request.task_id, request.executor_id, request.framework_id)
        seconds = await _answer(context, lambda: usage.interval(request.interval_secs))
        book = await _answer(context, lambda: self._queries.find(*names)) if request.task_id else None
        if request.task_id and (book is None or book.state.over):
            ended = await _answer(context, lambda: self._queries.get(*names))
            yield runner_pb2.WatchUsageResponse(key=ended.task.state.key, name=ended.task.name, over=True)
            return
        takes = Choice(*names).takes_executor if book is None else lambda key: key == book.key
        try:
            async with aclosing(self._usage.watch(takes, seconds)) as events:
                async for event in events:
                    yield event
                    if event.over and book is not None:
                        return
        except SlowSubscriber as error:
            await _abort(context, error)

    async def ReadLog(  # noqa: N802 - gRPC's name
        self, request: runner_pb2.ReadLogRequest, context: Context
    ) -> AsyncIterator[runner_pb2.ReadLogResponse]:
        """The output of one run."""
        names = (request.task_id, request.executor_id, request.framework_id)
        book = await _answer(context, lambda: self._queries.find(*names))
        try:
            if book is None or self._logs.is_gone(book):
                raise logs.gone(self._queries.get(*names), request.process)
            async with aclosing(self._logs.read(book, request)) as pieces:
                async for piece in pieces:
                    yield piece
        except RunnerError as error:
            await _abort(context, error)

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


async def _answer(context: Context, work: Callable[[], T]) -> T:
    try:
        return work()
    except RunnerError as error:
        await _abort(context, error)
        raise
