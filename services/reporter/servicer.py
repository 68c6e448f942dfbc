"""gRPC in and out, no logic: Attach on the executors' socket, the other calls on the operators'."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import grpc

from services.common.watch import SlowSubscriber
from services.reporter.explain_view import AmbiguousTask, UnknownTask
from trivet.reporter.v1 import reporter_pb2, reporter_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.reporter.reporter import Reporter

    Context = grpc.aio.ServicerContext[Any, Any]


class Hub(Protocol):
    """What serves the drivers' streams."""

    async def serve(self, context: Context) -> None:
        """One stream, until it ends."""


SERVICE_NAME: str = reporter_pb2.DESCRIPTOR.services_by_name["ReporterService"].full_name

add_to_server = reporter_pb2_grpc.add_ReporterServiceServicer_to_server


class ExecutorServicer:
    """What drivers may call."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def Attach(self, _: object, context: Context) -> None:  # noqa: N802 - gRPC's name
        """One driver's stream."""
        await self._hub.serve(context)

    async def _elsewhere(self, _: object, context: Context) -> None:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "this call is on the operators' socket, reporter-admin.sock")

    GetTaskStatus = ListTaskStatuses = ExplainTask = _elsewhere

    async def WatchTaskStatuses(self, request: object, context: Context) -> None:  # noqa: N802 - gRPC's name
        """Refused here."""
        await self._elsewhere(request, context)


class AdminServicer:
    """What operators may call."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    async def Attach(self, _: object, context: Context) -> None:  # noqa: N802 - gRPC's name
        """Refused here."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "this call is on the executors' socket, reporter.sock")

    async def GetTaskStatus(  # noqa: N802 - gRPC's name
        self, request: reporter_pb2.GetTaskStatusRequest, context: Context
    ) -> reporter_pb2.GetTaskStatusResponse:
        """The newest launch of one task."""
        if not request.task_id:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "task_id: must not be empty")
        task = self._reporter.task(request.task_id)
        if task is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"task_id: no task {request.task_id!r}")
        return reporter_pb2.GetTaskStatusResponse(task=task)

    async def ListTaskStatuses(  # noqa: N802 - gRPC's name
        self, _: reporter_pb2.ListTaskStatusesRequest, __: Context
    ) -> reporter_pb2.ListTaskStatusesResponse:
        """All tasks, the newest finished ones included."""
        return reporter_pb2.ListTaskStatusesResponse(tasks=self._reporter.tasks())

    async def ExplainTask(  # noqa: N802 - gRPC's name
        self, request: reporter_pb2.ExplainTaskRequest, context: Context
    ) -> reporter_pb2.ExplainTaskResponse:
        """How a task came to its status, and what it waits for."""
        if not request.task_id:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "task_id: must not be empty")
        try:
            return self._reporter.explain(request)
        except UnknownTask as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        except AmbiguousTask as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        raise AssertionError("abort raises")

    async def WatchTaskStatuses(  # noqa: N802 - gRPC's name
        self, request: reporter_pb2.WatchTaskStatusesRequest, context: Context
    ) -> AsyncIterator[reporter_pb2.WatchTaskStatusesResponse]:
        """Everything that is true now, then every change."""
        try:
            # Whole before the first is sent: tasks come and go while a client reads.
            async for task in self._reporter.watchers.subscribe(list(self._reporter.tasks())):
                if request.task_id in ("", task.key.task_id):
                    yield reporter_pb2.WatchTaskStatusesResponse(task=task)
        except SlowSubscriber as error:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
