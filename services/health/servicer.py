"""gRPC in and out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from services.common.watch import SlowSubscriber
from trivet.health.v1 import health_pb2, health_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.common.attach import AttachHub
    from services.health.book import Book

    Context = grpc.aio.ServicerContext[Any, Any]
    Hub = AttachHub[health_pb2.AttachRequest, health_pb2.AttachResponse]


class ExecutorServicer(health_pb2_grpc.HealthCheckServiceServicer):  # type: ignore[misc]  # no stubs for gRPC code
    """For drivers: Attach. `hub` is set while the service serves."""

    hub: Hub | None = None

    async def Attach(self, _requests: object, context: Context) -> None:  # noqa: N802 - the contract's name
        """One driver's stream."""
        if self.hub is None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the service is not serving")
        await self.hub.serve(context)


class AdminServicer(health_pb2_grpc.HealthCheckServiceServicer):  # type: ignore[misc]  # no stubs for gRPC code
    """For operators: everything else."""

    def __init__(self, book: Book) -> None:
        self._book = book

    async def ListChecks(  # noqa: N802 - the contract's name
        self, _request: health_pb2.ListChecksRequest, _context: Context
    ) -> health_pb2.ListChecksResponse:
        """All tasks that have a health check."""
        return health_pb2.ListChecksResponse(checks=self._book.shown())

    async def GetCheck(  # noqa: N802 - the contract's name
        self, request: health_pb2.GetCheckRequest, context: Context
    ) -> health_pb2.GetCheckResponse:
        """One check with its newest results, those since the start of the service."""
        entry = self._book.find(request.task_id)
        if entry is None or entry.checked is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"task_id: no health check of a task {request.task_id!r}")
        return health_pb2.GetCheckResponse(check=entry.shown(), results=entry.checked.history)

    async def WatchChecks(  # noqa: N802 - the contract's name
        self, request: health_pb2.WatchChecksRequest, context: Context
    ) -> AsyncIterator[health_pb2.WatchChecksResponse]:
        """All checks as they are now, then each one that has changed."""
        try:
            async for check in self._book.changes.subscribe(self._book.shown()):
                if request.task_id in ("", check.key.task_id):
                    yield health_pb2.WatchChecksResponse(check=check)
        except SlowSubscriber as error:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
