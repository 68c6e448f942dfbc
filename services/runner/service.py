"""The runner as one service: replay at the start, two servicers, an orderly stop."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from services.common.attach import AttachHub
from services.common.journal import Syncer
from services.common.tokens import TokenStore
from services.common.watch import Broadcast
from services.runner import header
from services.runner.archive import Archive
from services.runner.book import Book
from services.runner.header import Summary
from services.runner.queries import Queries
from services.runner.records import BadRecord, Moment
from services.runner.runner import Runner
from services.runner.servicer import AdminServicer, AttachServicer
from services.runner.store import Store
from trivet.runner.v1 import runner_pb2, runner_pb2_grpc

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    import grpc

    from services.common.settings import Settings
    from trivet.link.v1 import link_pb2

_LOG = logging.getLogger(__name__)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options that only the runner has."""
    parser.add_argument(
        "--lease",
        type=float,
        default=60.0,
        metavar="SECS",
        help="a task whose executor has not been heard of for this long is lost",
    )


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
        self._archive = Archive(self._store)
        self._watchers: Broadcast[runner_pb2.WatchTasksResponse] = Broadcast()
        self._runner = Runner(self._store, self._archive, self._watchers, clock=clock, lease=settings.options.lease)
        self._attach = AttachServicer()
        self._tokens: TokenStore | None = None

    def register(self, executor_server: grpc.aio.Server, admin_server: grpc.aio.Server) -> None:
        """Attach for executors, the rest for operators."""
        admin = AdminServicer(Queries(self._runner, self._archive), self._watchers)
        runner_pb2_grpc.add_RunnerServiceServicer_to_server(self._attach, executor_server)
        runner_pb2_grpc.add_RunnerServiceServicer_to_server(admin, admin_server)

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


def replay(store: Store, archive: Archive, runner: Runner, boot: str) -> None:
    """Brings every task back that has a sound journal. One that has none does not hold up the others."""
    summaries = []
    for log, payloads in store.scan():
        try:
            head = header.decode(payloads[0])
            if isinstance(head, Summary):
                log.close()
                summaries.append(head)
                continue
            book = Book(head, log, recorded=True)
            book.replay(payloads[1:])
        except BadRecord as error:
            log.close()
            store.quarantine(log.path, f"{log.path}: {error}")
            continue
        runner.adopt(book, boot)
    archive.load(summaries)
    fields = {"tasks": len(runner.books), "ended": len(archive.task_keys())}
    _LOG.info("replayed", extra={"fields": fields})


def _ack(ack: link_pb2.HelloAck) -> runner_pb2.AttachResponse:
    return runner_pb2.AttachResponse(hello_ack=ack)
