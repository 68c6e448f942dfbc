"""The tasks' journals on disk: one file a task, live or finished."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from services.common.descriptors import Descriptors
from services.common.journal import Journal, JournalCorrupt, JournalUnavailable
from services.reporter import records as rec
from services.reporter.task import ReportedTask

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from services.common.keys import TaskKey
    from services.common.syncer import Syncer

logger = logging.getLogger(__name__)

KEEP_FINISHED = 1000
"""Finished tasks that operators can still look at."""

_SUFFIX = ".journal"


class Store:
    """Journals under `<state dir>/tasks`. The state lock is held by whoever uses this."""

    def __init__(self, state_dir: str, syncer: Syncer | None = None, keep_finished: int = KEEP_FINISHED) -> None:
        self._directory = os.path.join(state_dir, "tasks")
        self._syncer = syncer
        # There may be more live tasks than descriptors.
        self._descriptors = Descriptors()
        self._keep_finished = keep_finished
        self._journals: dict[TaskKey, Journal] = {}
        # Oldest first.
        self.finished: dict[TaskKey, ReportedTask] = {}

    def load(self) -> list[ReportedTask]:
        """Replays all journals; returns the tasks that are not finished.

        A damaged journal is put aside as `*.damaged`: its task is told anew by the next Hello, the others are served.

        Raises:
            OSError: The directory cannot be made or read.
        """
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        live: list[ReportedTask] = []
        finished: list[ReportedTask] = []
        for name in sorted(os.listdir(self._directory)):
            path = os.path.join(self._directory, name)
            if not name.endswith(_SUFFIX):
                if name.endswith(f"{_SUFFIX}.new"):
                    # A rewrite that a crash interrupted; the old journal stands.
                    os.unlink(path)
                continue
            task = self._load(path)
            if task is not None:
                (finished if task.closed else live).append(task)
        finished.sort(key=_closed_at)
        for task in finished:
            self._drop_journal(task.key)
            self.finished[task.key] = task
        self._prune()
        return live

    def append(self, task: ReportedTask, records: Sequence[rec.Record]) -> None:
        """Writes records of a task; makes its journal with the first ones.

        Raises:
            JournalUnavailable: Nothing was written; try again later.
        """
        journal = self._journals.get(task.key)
        if journal is not None:
            journal.append_all(map(rec.encode, records))
            return
        path = self._path(task.key)
        journal = Journal.create(path, self._syncer, self._descriptors)
        try:
            journal.append_all(map(rec.encode, (task.opened, *records)))
        except JournalUnavailable:
            journal.close()
            _unlink(path)
            raise
        self._journals[task.key] = journal

    def rewrite(self, task: ReportedTask, records: Iterable[rec.Record]) -> None:
        """Replaces a journal's content by a shorter one that tells the same.

        Raises:
            JournalUnavailable: The old content stands.
        """
        journal = self._journals.get(task.key)
        if journal is not None:
            journal.rewrite(map(rec.encode, records))

    def has_journal(self, task: ReportedTask) -> bool:
        """Something was written about the task."""
        return task.key in self._journals

    def finish(self, task: ReportedTask) -> None:
        """The task is closed: its journal is written to no more, and only the newest finished ones are kept."""
        self._drop_journal(task.key)
        self.finished.pop(task.key, None)
        self.finished[task.key] = task
        self._prune()

    def close(self) -> None:
        """Closes all journals."""
        for key in list(self._journals):
            self._drop_journal(key)

    def _load(self, path: str) -> ReportedTask | None:
        try:
            journal, payloads = Journal.open(path, self._syncer, self._descriptors)
        except (JournalCorrupt, JournalUnavailable) as error:
            _put_aside(path, str(error))
            return None
        if not payloads:
            # Made, and never written to.
            journal.close()
            _unlink(path)
            return None
        try:
            task = ReportedTask.replay(map(rec.decode, payloads))
        except rec.BadRecord as error:
            journal.close()
            _put_aside(path, str(error))
            return None
        if path != self._path(task.key):
            journal.close()
            _put_aside(path, f"the name of the file is not that of task {task.key.task_id!r}")
            return None
        self._journals[task.key] = journal
        return task

    def _prune(self) -> None:
        while len(self.finished) > self._keep_finished:
            key = next(iter(self.finished))
            del self.finished[key]
            if key not in self._journals:
                _unlink(self._path(key))

    def _drop_journal(self, key: TaskKey) -> None:
        journal = self._journals.pop(key, None)
        if journal is not None:
            journal.close()

    def _path(self, key: TaskKey) -> str:
        return os.path.join(self._directory, key.file_name + _SUFFIX)


def _closed_at(task: ReportedTask) -> float:
    return task.closed.at if task.closed else 0.0


def _put_aside(path: str, why: str) -> None:
    os.rename(path, f"{path}.damaged")
    logger.error(
        "journal put aside; the task is taken over from its driver",
        extra={"fields": {"file": f"{path}.damaged", "error": why}},
    )


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass  # a task about which nothing was ever written
