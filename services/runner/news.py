"""What others hear of a change: operators who watch, and the log."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from services.runner import views
from services.runner.records import PhaseRecord, RunRecord
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.common.watch import Broadcast
    from services.runner.book import Book
    from services.runner.records import Record

_LOG = logging.getLogger(__name__)


class News:
    """Tells every change."""

    def __init__(self, watchers: Broadcast[runner_pb2.WatchTasksResponse]) -> None:
        self._watchers = watchers

    def tell(self, book: Book, records: Sequence[Record], *, attached: bool) -> None:
        """`records` are written and applied, or could not be written; `attached`: the task's driver is there."""
        if self._watchers.watched:
            for record in records:
                if isinstance(record, RunRecord):
                    self._watchers.publish(views.process_change(book, record))
            whole = views.task(book, attached=attached)
            self._watchers.publish(runner_pb2.WatchTasksResponse(task=whole))
        for phase in (record.phase.name for record in records if isinstance(record, PhaseRecord)):
            fields = {"task": str(book.key), "phase": phase, "message": book.state.message}
            _LOG.info("phase", extra={"fields": fields})
