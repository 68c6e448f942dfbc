"""The runner as one service: replay at the start, two servicers, an orderly stop."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from services.common.attach import AttachHub
from services.common.syncer import Syncer
from services.common.tokens import TokenStore
from services.common.watch import Broadcast
from services.runner.archive import KEEP, Archive
from services.runner.logs import LogDesk
from services.runner.plan import RUN_LIMIT
from services.runner.queries import Queries
from services.runner.records import Moment
from services.runner.recovery import replay
from services.runner.runner import Runner
from services.runner.servicer import AdminServicer, AttachServicer
from services.runner.store import Store
from services.runner.usage import DISK_SECS, UsageDesk
from trivet.runner.v1 import runner_pb2, runner_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import grpc

    from services.common.settings import Settings
    from trivet.link.v1 import link_pb2


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options that only the runner has."""
    parser.add_argument(
        "--lease",
        type=float,
        default=60.0,
        metavar="SECS",
        help="a task whose executor has not been heard of for this long is lost",
    )
    parser.add_argument(
        "--disk-interval",
        type=_seconds,
        default=DISK_SECS,
        metavar="SECS",
        help="how often the sandbox of a task with a disk limit is measured; 0: never, and no limit is enforced",
    )
    parser.add_argument(
        "--run-limit",
        type=_count,
        default=RUN_LIMIT,
        metavar="N",
        help="runs of one process of a new task until it has failed, daemons exempt; 0: no limit",
    )
    parser.add_argument(
        "--keep-ended", type=_count, default=KEEP, metavar="N", help="ended tasks that can still be shown"
    )


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of seconds, 0 or more, is {text!r}")
    return value


def _count(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be a whole number, 0 or more, is {text!r}")
    return value


def clock() -> Moment:
    """Now, on both clocks."""
    return Moment(time.clock_gettime(time.CLOCK_BOOTTIME), time.time())


def boot_id() -> str:
    """The kernel's id of this boot."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


class RunnerProcess:
    """The runner in one process. See `services.common.server.Service`."""

    name: str = "runner"
    service_names: Sequence[str] = ("trivet.runner.v1.RunnerService",)

    def __init__(self, settings: Settings) -> None:
        """Opens nothing yet: an older process may still hold the state directory."""
        self._settings = settings
        self._syncer = Syncer()
        self._store = Store(settings.state_dir, self._syncer)
        self._archive = Archive(self._store, settings.options.keep_ended)
        self._watchers: Broadcast[runner_pb2.WatchTasksResponse] = Broadcast()
        self._runner = Runner(
            self._store,
            self._archive,
            self._watchers,
            clock=clock,
            lease=settings.options.lease,
            run_limit=settings.options.run_limit,
        )
        self._usage = UsageDesk(self._runner, settings.options.disk_interval)
        self._logs = LogDesk(self._runner)
        self._runner.listeners += [self._usage, self._logs]
        self._attach = AttachServicer()
        self._tokens: TokenStore | None = None

    def register(self, executor_server: grpc.aio.Server, admin_server: grpc.aio.Server) -> None:
        """Attach for executors, the rest for operators."""
        queries = Queries(self._runner, self._archive, self._store.damages)
        admin = AdminServicer(queries, self._watchers, self._usage, self._logs)
        runner_pb2_grpc.add_RunnerServiceServicer_to_server(self._attach, executor_server)
        runner_pb2_grpc.add_RunnerServiceServicer_to_server(admin, admin_server)

    def tell_soundness(self, tell: Callable[[bool], None]) -> None:
        """NOT_SERVING as long as a journal takes no records: nothing new is started then."""
        self._runner.troubles.on_soundness = tell

    async def start(self) -> None:
        """Replays the journals.

        Raises:
            OSError: The state directory cannot be used.
        """
        self._store.open()
        self._tokens = TokenStore(self._settings.state_dir)
        replay(self._store, self._archive, self._runner, boot_id())
        self._runner.start_leases()
        self._attach.hub = AttachHub(self._runner, self._tokens, _ack)

    async def stop(self) -> None:
        """Ends its streams and closes its files."""
        if self._attach.hub is not None:
            self._attach.hub.close()
        self._runner.close()
        if self._tokens is not None:
            self._tokens.close()
        self._syncer.stop()


def _ack(ack: link_pb2.HelloAck) -> runner_pb2.AttachResponse:
    return runner_pb2.AttachResponse(hello_ack=ack)
