"""gRPC in and out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NoReturn

import grpc

from services.common.watch import SlowSubscriber
from services.health import choice, shown
from services.health.metrics import metrics_of
from services.health.model import Kind
from trivet.health.v1 import health_pb2, health_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.common.attach import AttachHub
    from services.health.book import Book
    from services.health.entry import Entry
    from services.health.metrics import Counters

    Context = grpc.aio.ServicerContext[Any, Any]
    Hub = AttachHub[health_pb2.AttachRequest, health_pb2.AttachResponse]

# A snooze that nobody remembers must not outlive its reason for ever.
LONGEST_SNOOZE = 7 * 86400.0


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

    def __init__(self, book: Book, counters: Counters) -> None:
        self._book = book
        self._counters = counters

    async def ListChecks(  # noqa: N802 - the contract's name
        self, request: health_pb2.ListChecksRequest, _context: Context
    ) -> health_pb2.ListChecksResponse:
        """All checks, or those that are asked for."""
        return health_pb2.ListChecksResponse(checks=[check for check in self._book.shown() if _wanted(request, check)])

    async def GetCheck(  # noqa: N802 - the contract's name
        self, request: health_pb2.GetCheckRequest, context: Context
    ) -> health_pb2.GetCheckResponse:
        """One check with its configuration and its newest results."""
        kind = None
        if request.kind != health_pb2.CHECK_KIND_UNSPECIFIED:
            kind = shown.kind_of(request.kind)
            if kind is None:
                await _refuse(context, f"kind: {request.kind} is not known here: 1 is health, 2 is check")
        entry, kind = await self._choose(request, kind, context)
        return health_pb2.GetCheckResponse(
            check=shown.check_of(entry, kind, self._book.clock()),
            results=shown.results_of(entry.histories[kind]),
            config=shown.config_of(entry.checked[kind].spec),
        )

    async def WatchChecks(  # noqa: N802 - the contract's name
        self, request: health_pb2.WatchChecksRequest, context: Context
    ) -> AsyncIterator[health_pb2.WatchChecksResponse]:
        """All checks as they are now, then each one that has changed."""
        snapshot = [health_pb2.WatchChecksResponse(check=check) for check in self._book.shown()]
        try:
            async for update in self._book.changes.subscribe(snapshot):
                if _wanted(request, update.check):
                    yield update
        except SlowSubscriber as error:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))

    async def SnoozeCheck(  # noqa: N802 - the contract's name
        self, request: health_pb2.SnoozeCheckRequest, context: Context
    ) -> health_pb2.SnoozeCheckResponse:
        """Stops the probes of a health check for a while, or has one made at once."""
        secs = request.duration_secs
        if not (math.isfinite(secs) and 0 <= secs <= LONGEST_SNOOZE):
            await _refuse(context, f"duration_secs: from 0 to {LONGEST_SNOOZE:g} (7 days), is {secs:g}")
        entry, kind = await self._choose(request, Kind.HEALTH, context)
        if choice.over(entry, kind):
            why = f"task_id: {request.task_id!r} is ending or over: its health is not checked any more"
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, why)
        return health_pb2.SnoozeCheckResponse(check=self._book.snooze(entry, secs))

    async def GetMetrics(  # noqa: N802 - the contract's name
        self, _request: health_pb2.GetMetricsRequest, _context: Context
    ) -> health_pb2.GetMetricsResponse:
        """Counters since the start of the service, by kind and type of check."""
        metrics = metrics_of(self._counters, self._book.entries(), self._book.clock())
        return health_pb2.GetMetricsResponse(metrics=metrics)

    async def _choose(
        self,
        request: health_pb2.GetCheckRequest | health_pb2.SnoozeCheckRequest,
        kind: Kind | None,
        context: Context,
    ) -> tuple[Entry, Kind]:
        asked = request.task_id, request.executor_id, request.framework_id
        try:
            return choice.choose(self._book.entries(), kind, *asked)
        except choice.UnknownCheck as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        except choice.AmbiguousTask as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        raise AssertionError("abort raises")


def _wanted(request: health_pb2.ListChecksRequest | health_pb2.WatchChecksRequest, check: health_pb2.Check) -> bool:
    key = check.key
    return (
        request.task_id in ("", key.task_id)
        and request.executor_id in ("", key.executor.executor_id)
        and request.framework_id in ("", key.executor.framework_id)
    )


async def _refuse(context: Context, why: str) -> NoReturn:
    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, why)
    raise AssertionError("abort raises")
