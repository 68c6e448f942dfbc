"""The health service as one thing that can be started and stopped."""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING

from services.common.attach import AttachHub
from services.common.task.aurora_health import RULES
from services.common.tokens import TokenStore
from services.health.book import Book
from services.health.metrics import Counters
from services.health.metrics_server import MetricsServer, address
from services.health.servicer import AdminServicer, ExecutorServicer
from services.health.store import Store
from trivet.health.v1 import health_pb2, health_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Sequence

    import grpc

    from services.common.attach import Session
    from services.common.settings import Settings
    from services.health.prometheus import Snapshot
    from trivet.link.v1 import link_pb2

    HealthSession = Session[health_pb2.AttachResponse]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this service alone."""
    parser.add_argument(
        "--aurora-rule",
        choices=sorted(RULES),
        default="time",
        help="verdict rule of tasks whose health_check_config names none; fixed for a task when it is launched",
    )
    parser.add_argument(
        "--metrics-address",
        type=address,
        default=argparse.SUPPRESS,
        metavar="127.0.0.1:PORT",
        help="serve metrics for Prometheus at http://127.0.0.1:PORT/metrics; a loopback address ([::1]:PORT)",
    )


class HealthService:
    """See `services.common.server.Service`."""

    name: str = "health"
    service_names: Sequence[str] = ("trivet.health.v1.HealthCheckService",)

    def __init__(self, settings: Settings) -> None:
        self._state_dir = settings.state_dir
        self._counters = Counters()
        self._book = Book(
            Store(settings.state_dir, _boot_id()),
            asyncio.get_running_loop().call_later,
            aurora_rule=settings.options.aurora_rule,
            observe=self._counters,
        )
        where = getattr(settings.options, "metrics_address", None)
        self._metrics = None if where is None else MetricsServer(where, self._snapshot)
        self._executors = ExecutorServicer()

    def register(self, executor_server: grpc.aio.Server, admin_server: grpc.aio.Server) -> None:
        """Attach for executors, the rest for operators."""
        health_pb2_grpc.add_HealthCheckServiceServicer_to_server(self._executors, executor_server)
        health_pb2_grpc.add_HealthCheckServiceServicer_to_server(
            AdminServicer(self._book, self._counters), admin_server
        )

    async def start(self) -> None:
        """Replays the journals.

        Raises:
            OSError: The state directory cannot be used.
        """
        self._book.replay()
        # Opened only now: until the state lock was taken, an older process may have written to it.
        self._tokens = TokenStore(self._state_dir)
        self._executors.hub = AttachHub(self._book, self._tokens, _ack)
        if self._metrics is not None:
            self._metrics.start()

    async def stop(self) -> None:
        """Ends the streams and closes the journals."""
        if self._metrics is not None:
            await self._metrics.close()
        if self._executors.hub is not None:
            self._executors.hub.close()
            self._executors.hub = None
            self._tokens.close()
        self._book.close()

    def _snapshot(self) -> Snapshot:
        from services.health.prometheus import snapshot

        return snapshot(self._counters, self._book.entries(), self._book.clock())


def _ack(ack: link_pb2.HelloAck) -> health_pb2.AttachResponse:
    return health_pb2.AttachResponse(hello_ack=ack)


def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()
