"""Journals on their way to the disk, in the background."""

from __future__ import annotations

import logging
import os
import threading

from services.common.logs import Occasional

_LOG = logging.getLogger(__name__)


class Syncer:
    """Flushes dirty journals to the disk in one background thread, at most every `interval` seconds.

    Only a crash of the host needs this, so nobody waits for it; errors are logged and counted.
    """

    def __init__(self, interval: float = 0.05) -> None:
        self._interval = interval
        self._condition = threading.Condition()
        self._dirty: dict[int, int] = {}
        self._stopped = False
        self._complaint = Occasional()
        self.errors = 0
        self._thread = threading.Thread(target=self._run, name="journal-sync", daemon=True)
        self._thread.start()

    def mark(self, fd: int) -> None:
        """The file has bytes that the disk may not have. Never fails: the record itself is written."""
        with self._condition:
            if fd in self._dirty:
                return
            try:
                # A duplicate: the owner may close its descriptor while the thread still flushes.
                self._dirty[fd] = os.dup(fd)
            except OSError:
                # Out of descriptors: the next append tries again.
                self.errors += 1
                return
            self._condition.notify()

    def discard(self, fd: int) -> None:
        """The descriptor is about to be closed; what it wrote is flushed all the same."""
        with self._condition:
            duplicate = self._dirty.pop(fd, None)
            if duplicate is not None:
                self._dirty[-duplicate] = duplicate
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
            for duplicate in batch.values():
                try:
                    os.fdatasync(duplicate)
                except OSError as error:
                    self.errors += 1
                    # What was written is still read back by a new process; a crash of the host may lose it.
                    fields: dict[str, object] = {"path": _path_of(duplicate), "error": error.strerror}
                    self._complaint.error(_LOG, "journal not flushed to the disk", fields)
                os.close(duplicate)
            if stopped:
                return


def _path_of(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError as error:
        return f"? ({error.strerror})"
