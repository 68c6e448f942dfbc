"""Tasks of which nothing is left: the newest ones can still be shown."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from services.common.journal import JournalCorrupt, JournalUnavailable
from services.common.logs import Occasional
from services.runner import header, views
from services.runner.header import Summary
from services.runner.records import BadRecord
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from services.common.keys import TaskKey
    from services.runner.book import Book
    from services.runner.store import Store
    from trivet.link.v1 import link_pb2

_LOG = logging.getLogger(__name__)

# Ended tasks unless told otherwise.
KEEP = 10_000


class Archive:
    """Summaries of ended tasks, newest last. Their journals hold nothing else."""

    def __init__(self, store: Store, keep: int = KEEP) -> None:
        self._store = store
        self._keep = keep
        self._complaint = Occasional()
        # Serialised trivet.runner.v1.Task: a fraction of what the messages take.
        self._tasks: dict[TaskKey, bytes] = {}

    def load(self, summaries: list[Summary]) -> None:
        """Takes in what the journals hold."""
        for summary in sorted(summaries, key=lambda summary: summary.ended_at):
            self._keep_task(summary)

    def add(self, book: Book) -> bool:
        """Turns a live task into a summary; False: the journal cannot be written, so it stays as it is."""
        state = book.state
        response = views.response(book, attached=False)
        summary = Summary(
            book.key, book.head.facts.boot_id, book.head.launched_at, state.phases[-1][1], response.SerializeToString()
        )
        try:
            book.log.rewrite([header.encode(summary)])
        except JournalUnavailable as error:
            self._complaint.error(_LOG, "task not archived", {"task": str(book.key), "error": str(error)})
            return False
        book.log.close()
        self._keep_task(summary)
        return True

    def state_of(self, key: TaskKey) -> link_pb2.TaskState | None:
        """The last state of an ended task."""
        task = self.get(key)
        return None if task is None else task.state

    def get(self, key: TaskKey) -> runner_pb2.Task | None:
        """An ended task."""
        data = self._tasks.get(key)
        return None if data is None else runner_pb2.Task.FromString(data)

    def details(self, key: TaskKey) -> runner_pb2.GetTaskResponse | None:
        """Everything that is known of an ended task."""
        if key not in self._tasks:
            return None
        try:
            record = header.decode(self._store.read(key)[0])
        except (OSError, JournalCorrupt, BadRecord, IndexError) as error:
            _LOG.error("summary cannot be read", extra={"fields": {"task": str(key), "error": str(error)}})
            return runner_pb2.GetTaskResponse(task=self.get(key))
        if not isinstance(record, Summary):
            return runner_pb2.GetTaskResponse(task=self.get(key))
        return runner_pb2.GetTaskResponse.FromString(record.response)

    def task_keys(self) -> list[TaskKey]:
        """All ended tasks, the one that ended last at the end."""
        return list(self._tasks)

    def _keep_task(self, summary: Summary) -> None:
        response = runner_pb2.GetTaskResponse.FromString(summary.response)
        self._tasks.pop(summary.key, None)
        self._tasks[summary.key] = response.task.SerializeToString()
        while len(self._tasks) > self._keep:
            oldest = next(iter(self._tasks))
            del self._tasks[oldest]
            self._store.remove(oldest)
