"""Journals on their way to the disk, in the background."""

from __future__ import annotations

import logging
import os
import threading

from services.common.logs import Occasional

_LOG = logging.getLogger(__name__)


class Syncer:
    """Flushes dirty journals to the disk in one background thread, at most every `interval` seconds.

    Only a crash of the host needs this, so nobody waits for it; errors are logged and counted. It opens the files
    itself, one at a time: however many tasks write at once, it takes one descriptor.
    """

    def __init__(self, interval: float = 0.05) -> None:
        self._interval = interval
        self._condition = threading.Condition()
        # A dict as an ordered set.
        self._dirty: dict[str, None] = {}
        self._stopped = False
        self._complaint = Occasional()
        self.errors = 0
        self._thread = threading.Thread(target=self._run, name="journal-sync", daemon=True)
        self._thread.start()

    def mark(self, path: str) -> None:
        """The file has bytes that the disk may not have. Never fails: the record itself is written."""
        with self._condition:
            if path not in self._dirty:
                self._dirty[path] = None
                self._condition.notify()

    def stop(self) -> None:
        """Flushes what is left and ends the thread."""
        with self._condition:
            self._stopped = True
            self._condition.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._condition:
                while not self._dirty and not self._stopped:
                    self._condition.wait()
                if self._dirty and not self._stopped:
                    # Gathers the writes of one batch.
                    self._condition.wait_for(lambda: self._stopped, timeout=self._interval)
                batch, self._dirty = self._dirty, {}
                stopped = self._stopped
            for path in batch:
                try:
                    _flush(path)
                except FileNotFoundError:
                    # Deleted or put aside meanwhile: nobody will read it as a journal again.
                    continue
                except OSError as error:
                    self.errors += 1
                    # What was written is still read back by a new process; a crash of the host may lose it.
                    fields: dict[str, object] = {"path": path, "error": error.strerror}
                    self._complaint.error(_LOG, "journal not flushed to the disk", fields)
            if stopped:
                return


def _flush(path: str) -> None:
    # The kernel flushes the file, not the descriptor: what was written through another one goes along.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fdatasync(fd)
    finally:
        os.close(fd)
