"""Journals on their way to the disk, in the background."""

from __future__ import annotations

import asyncio
import enum
import logging
import os
import threading

from services.common.logs import Occasional

_LOG = logging.getLogger(__name__)


class _Batch(enum.Enum):
    """What stands before the flush of what is dirty."""

    NONE = enum.auto()
    # The thread lets more come.
    GATHERING = enum.auto()
    # The event loop does, and then wakes the thread.
    TIMED = enum.auto()
    READY = enum.auto()


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
        self._batch = _Batch.NONE
        self._complaint = Occasional()
        self.errors = 0
        self._thread = threading.Thread(target=self._run, name="journal-sync", daemon=True)
        self._thread.start()

    def mark(self, path: str) -> None:
        """The file has bytes that the disk may not have. Never fails: the record itself is written."""
        with self._condition:
            if path in self._dirty:
                return
            self._dirty[path] = None
            if self._batch is _Batch.NONE:
                self._begin()

    def _begin(self) -> None:
        """Has the thread flush the batch that begins when it has gathered."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._batch = _Batch.GATHERING
            self._condition.notify()
        else:
            # Woken now, the thread would take processor and interpreter from what the record is about.
            self._batch = _Batch.TIMED
            loop.call_later(self._interval, self._complete)

    def _complete(self) -> None:
        with self._condition:
            self._batch = _Batch.READY
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
                while not self._stopped and self._batch not in (_Batch.GATHERING, _Batch.READY):
                    self._condition.wait()
                if self._batch is _Batch.GATHERING:
                    self._condition.wait_for(lambda: self._stopped, timeout=self._interval)
                batch, self._dirty, self._batch = self._dirty, {}, _Batch.NONE
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
