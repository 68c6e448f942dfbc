"""FaultService: requests in, answers out."""

# ruff: noqa: N802 - the contract names the methods

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import grpc

from services.local_agent.faults.restart import Restart
from services.local_agent.faults.validation import MAX_DELAY, FaultRefused
from trivet.agent.v1 import faults_pb2, faults_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from services.local_agent.faults.force import Faults

    Context = grpc.aio.ServicerContext[Any, Any]

SERVICE_NAME = faults_pb2.DESCRIPTOR.services_by_name["FaultService"].full_name


class FaultServicer(faults_pb2_grpc.FaultServiceServicer):  # type: ignore[misc]  # no stubs for gRPC code
    """Contract: protos/trivet/agent/v1/faults.proto."""

    def __init__(
        self, faults: Faults, apply_listening: Callable[[], Awaitable[None]], restart: Callable[[Restart], None]
    ) -> None:
        """`apply_listening` makes the sockets listen, or not, as `faults` wants it now."""
        self._faults = faults
        self._apply_listening = apply_listening
        self._restart = restart

    async def AddFault(self, request: faults_pb2.AddFaultRequest, context: Context) -> faults_pb2.AddFaultResponse:
        """INVALID_ARGUMENT names the field."""
        try:
            fault_id = self._faults.add(request.fault)
        except FaultRefused as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        await self._apply_listening()
        return faults_pb2.AddFaultResponse(id=fault_id)

    async def RemoveFaults(
        self, request: faults_pb2.RemoveFaultsRequest, context: Context
    ) -> faults_pb2.RemoveFaultsResponse:
        """NOT_FOUND: there is no fault of that id."""
        try:
            ids = self._faults.remove(request.id)
        except KeyError:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"id: no fault {request.id!r}")
        await self._apply_listening()
        return faults_pb2.RemoveFaultsResponse(ids=ids)

    async def ListFaults(
        self, request: faults_pb2.ListFaultsRequest, context: Context
    ) -> faults_pb2.ListFaultsResponse:
        """All of them, in the order in which they are asked."""
        del request, context
        return faults_pb2.ListFaultsResponse(faults=self._faults.in_force())

    async def RestartAgent(
        self, request: faults_pb2.RestartAgentRequest, context: Context
    ) -> faults_pb2.RestartAgentResponse:
        """The restart begins when the answer is on its way."""
        if request.how not in (faults_pb2.RESTART_HOW_TERM, faults_pb2.RESTART_HOW_KILL):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "how: TERM or KILL")
        for field in ("gap_seconds", "not_found_seconds", "unavailable_seconds"):
            value = getattr(request, field)
            if not math.isfinite(value) or not 0 <= value <= MAX_DELAY:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{field}: from 0 to a day")
        wanted = Restart(
            kill=request.how == faults_pb2.RESTART_HOW_KILL,
            gap=request.gap_seconds,
            not_found=request.not_found_seconds,
            unavailable=request.unavailable_seconds,
        )
        # As the server really calls it; the stubs have another kind of callback.
        context.add_done_callback(lambda _: self._restart(wanted))  # type: ignore[arg-type]
        return faults_pb2.RestartAgentResponse()
