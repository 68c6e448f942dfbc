"""The parts of the reporter put together, as the process around it starts and stops them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from services.common.attach import AttachHub
from services.common.syncer import Syncer
from services.common.tokens import TokenStore
from services.reporter import servicer
from services.reporter.reporter import Reporter
from services.reporter.store import Store
from trivet.reporter.v1 import reporter_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

    import grpc

    from services.common.settings import Settings
    from trivet.link.v1 import link_pb2


class ReporterService:
    """One reporter in one process."""

    name = "reporter"
    service_names: Sequence[str] = (servicer.SERVICE_NAME,)

    def __init__(self, settings: Settings) -> None:
        """Opens nothing yet: an older process may still hold the state directory."""
        self._settings = settings
        self._syncer = Syncer()
        self._reporter = Reporter(
            Store(settings.state_dir, self._syncer),
            call_later=lambda delay, function: asyncio.get_running_loop().call_later(delay, function),
            lease=settings.options.executor_lease,
        )
        self._tokens: TokenStore | None = None
        self._hub: AttachHub[reporter_pb2.AttachRequest, reporter_pb2.AttachResponse] | None = None

    def register(self, executor_server: grpc.aio.Server, admin_server: grpc.aio.Server) -> None:
        """Adds the servicers."""
        servicer.add_to_server(servicer.ExecutorServicer(self), executor_server)
        servicer.add_to_server(servicer.AdminServicer(self._reporter), admin_server)

    async def serve(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """One driver's stream. The sockets have their public names only after `start`."""
        if self._hub is None:
            raise RuntimeError("called before start")
        await self._hub.serve(context)

    async def start(self) -> None:
        """Replays its state.

        Raises:
            OSError: The state directory cannot be used.
        """
        self._tokens = TokenStore(self._settings.state_dir)
        self._hub = AttachHub(self._reporter, self._tokens, _ack)
        self._reporter.load()

    async def stop(self) -> None:
        """Ends its streams and closes its files."""
        if self._hub is not None:
            self._hub.close()
        self._reporter.close()
        if self._tokens is not None:
            self._tokens.close()
        self._syncer.stop()


def _ack(ack: link_pb2.HelloAck) -> reporter_pb2.AttachResponse:
    return reporter_pb2.AttachResponse(hello_ack=ack)
