"""The journals of all tasks: one file a task under STATE/tasks."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from services.common.journal import Journal, JournalCorrupt, JournalUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from services.common.journal import Syncer
    from services.common.keys import TaskKey

_LOG = logging.getLogger(__name__)
_SUFFIX = ".journal"


class TaskLog:
    """Journal of one task. The file is made by the first write, so that a full disk is met in one place only."""

    def __init__(self, path: str, syncer: Syncer | None, journal: Journal | None = None) -> None:
        self.path = path
        self._syncer = syncer
        self._journal = journal
        self._closed = False

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return 0 if self._journal is None else self._journal.size

    def append(self, payloads: Sequence[bytes]) -> None:
        """Adds records in one write.

        Raises:
            JournalUnavailable: Nothing was added; may be tried again.
        """
        if self._closed:
            raise JournalUnavailable(f"{self.path}: closed")
        if self._journal is None:
            journal = Journal.create(self.path, self._syncer)
            try:
                journal.append_all(payloads)
            except JournalUnavailable:
                journal.close()
                raise
            self._journal = journal
        else:
            self._journal.append_all(payloads)

    def rewrite(self, payloads: Sequence[bytes]) -> None:
        """Replaces the content.

        Raises:
            JournalUnavailable: The old content stands.
        """
        if self._journal is None:
            self.append(payloads)
        else:
            self._journal.rewrite(payloads)

    def close(self) -> None:
        """Closes the file for good."""
        self._closed = True
        if self._journal is not None:
            self._journal.close()
            self._journal = None


class Store:
    """STATE/tasks. The service holds the lock on STATE."""

    def __init__(self, state_dir: str, syncer: Syncer | None = None) -> None:
        """Touches nothing."""
        self._directory = os.path.join(state_dir, "tasks")
        self._syncer = syncer

    def open(self) -> None:
        """Makes the directory.

        Raises:
            OSError: It cannot be made.
        """
        os.makedirs(self._directory, mode=0o700, exist_ok=True)

    def log_of(self, key: TaskKey) -> TaskLog:
        """The journal of a new task; nothing is written yet."""
        return TaskLog(self._path(key), self._syncer)

    def scan(self) -> Iterator[tuple[TaskLog, list[bytes]]]:
        """All journals with their payloads. Damaged ones are put aside, and the others are not touched by that."""
        for name in sorted(os.listdir(self._directory)):
            if not name.endswith(_SUFFIX):
                continue
            path = os.path.join(self._directory, name)
            try:
                journal, payloads = Journal.open(path, self._syncer)
            except (JournalCorrupt, JournalUnavailable, OSError) as error:
                self.quarantine(path, str(error))
                continue
            if payloads:
                yield TaskLog(path, self._syncer, journal), payloads
            else:
                # Cut off before its first record was whole: nothing was done for the task either.
                journal.close()
                self._unlink(path)

    def read(self, key: TaskKey) -> list[bytes]:
        """Payloads of one journal.

        Raises:
            OSError: The file cannot be read.
            JournalCorrupt: It is damaged.
        """
        journal, payloads = Journal.open(self._path(key))
        journal.close()
        return payloads

    def quarantine(self, path: str, why: str) -> None:
        """Puts a file aside that cannot be used, and says so; nothing is deleted."""
        _LOG.error("journal put aside", extra={"fields": {"path": path, "error": why}})
        try:
            os.rename(path, f"{path}.damaged")
        except OSError as error:
            _LOG.error("journal cannot be put aside", extra={"fields": {"path": path, "error": str(error)}})

    def remove(self, key: TaskKey) -> None:
        """Deletes a journal."""
        self._unlink(self._path(key))

    def _path(self, key: TaskKey) -> str:
        return os.path.join(self._directory, f"{key.file_name}{_SUFFIX}")

    def _unlink(self, path: str) -> None:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            _LOG.error("journal cannot be deleted", extra={"fields": {"path": path, "error": str(error)}})
