"""The health service as one thing that can be started and stopped."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from services.common.attach import AttachHub
from services.common.tokens import TokenStore
from services.health.book import Book
from services.health.servicer import AdminServicer, ExecutorServicer
from services.health.store import Store
from trivet.health.v1 import health_pb2, health_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Sequence

    import grpc

    from services.common.attach import Session
    from services.common.settings import Settings
    from trivet.link.v1 import link_pb2

    HealthSession = Session[health_pb2.AttachResponse]


class HealthService:
    """See `services.common.server.Service`."""

    name: str = "health"
    service_names: Sequence[str] = ("trivet.health.v1.HealthCheckService",)

    def __init__(self, settings: Settings) -> None:
        self._state_dir = settings.state_dir
        self._book = Book(Store(settings.state_dir, _boot_id()), asyncio.get_running_loop().call_later)
        self._executors = ExecutorServicer()

    def register(self, executor_server: grpc.aio.Server, admin_server: grpc.aio.Server) -> None:
        """Attach for executors, the rest for operators."""
        health_pb2_grpc.add_HealthCheckServiceServicer_to_server(self._executors, executor_server)
        health_pb2_grpc.add_HealthCheckServiceServicer_to_server(AdminServicer(self._book), admin_server)

    async def start(self) -> None:
        """Replays the journals.

        Raises:
            OSError: The state directory cannot be used.
        """
        self._book.replay()
        # Opened only now: until the state lock was taken, an older process may have written to it.
        self._tokens = TokenStore(self._state_dir)
        self._executors.hub = AttachHub(self._book, self._tokens, _ack)

    async def stop(self) -> None:
        """Ends the streams and closes the journals."""
        if self._executors.hub is not None:
            self._executors.hub.close()
            self._executors.hub = None
            self._tokens.close()
        self._book.close()


def _ack(ack: link_pb2.HelloAck) -> health_pb2.AttachResponse:
    return health_pb2.AttachResponse(hello_ack=ack)


def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()
