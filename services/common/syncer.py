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

    Only a crash of the host needs this, so nobody waits for it; errors are logged and counted.
    """

    def __init__(self, interval: float = 0.05) -> None:
        self._interval = interval
        self._condition = threading.Condition()
        self._dirty: dict[int, int] = {}
        self._stopped = False
        self._batch = _Batch.NONE
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

    def discard(self, fd: int) -> None:
        """The descriptor is about to be closed; what it wrote is flushed all the same."""
        with self._condition:
            duplicate = self._dirty.pop(fd, None)
            if duplicate is not None:
                self._dirty[-duplicate] = duplicate

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
