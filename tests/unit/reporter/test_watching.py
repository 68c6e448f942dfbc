"""What an operator's watch is told first is whole, whatever happens while it is being told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from services.common.watch import Broadcast
from services.reporter.servicer import AdminServicer
from trivet.reporter.v1 import reporter_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from services.reporter.reporter import Reporter


class Tasks:
    """A reporter, as far as a watch needs one."""

    def __init__(self, count: int) -> None:
        self.watchers: Broadcast[reporter_pb2.TaskStatuses] = Broadcast()
        self.by_id: dict[str, reporter_pb2.TaskStatuses] = {}
        for n in range(count):
            self.add(f"t{n}")

    def add(self, task_id: str) -> None:
        self.by_id[task_id] = reporter_pb2.TaskStatuses()
        self.by_id[task_id].key.task_id = task_id

    def tasks(self) -> Iterator[reporter_pb2.TaskStatuses]:
        yield from self.by_id.values()


def test_tasks_may_come_and_go_while_a_watcher_reads() -> None:
    async def watch() -> list[str]:
        reporter = Tasks(3)
        servicer = AdminServicer(cast("Reporter", reporter))
        watched = servicer.WatchTaskStatuses(reporter_pb2.WatchTaskStatusesRequest(), cast("Any", None))
        seen = [(await anext(watched)).task.key.task_id]
        reporter.add("later")
        reporter.watchers.publish(reporter.by_id["later"])
        del reporter.by_id["t1"]
        seen += [(await anext(watched)).task.key.task_id for _ in range(3)]
        await watched.aclose()  # type: ignore[attr-defined]
        return seen

    assert asyncio.run(watch()) == ["t0", "t1", "t2", "later"]
