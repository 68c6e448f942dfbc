"""Append-only log: what a service has decided, written before it acts.

Layout: an 8-byte header (magic, format version), then frames of length (u32), CRC-32 (u32), payload. An append is one
write that has reached the kernel when it returns; it survives the death of the service. A crash of the host may take
the last 50 ms, and the tasks with them, so nothing waits for the disk (design: write before you act).

What a reader finds at the end of a file decides what it means:

    incomplete last frame, or zeros to the end     torn by a crash: cut off
    a whole frame with a wrong checksum, then more   damage: `JournalCorrupt` with file and offset
    a wrong checksum in the very last frame        torn (blocks of one write may reach the disk in any order): cut off
"""

from __future__ import annotations

import os
import struct
import threading
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MAGIC = b"TRVTJ\x00\x00\x01"
_FRAME = struct.Struct("<II")
# More is refused when written, so when read it is damage, not data. The longest that is written: one executor's call to
# the local agent, 64 MiB and a third more as base64.
MAX_PAYLOAD = 128 << 20


class JournalCorrupt(Exception):
    """Damage in the middle of a journal: what follows `offset` cannot be trusted."""

    def __init__(self, path: str, offset: int, why: str) -> None:
        super().__init__(f"{path}: damaged at offset {offset}: {why}")
        self.path = path
        self.offset = offset


class JournalUnavailable(Exception):
    """The record was not written (disk full, I/O error). The journal holds no part of it; append may be tried again."""


class RecordTooLong(JournalUnavailable):
    """A record is longer than `MAX_PAYLOAD`, so it could not be read again. To try again is of no use."""


class Journal:
    """One open log file. Not thread-safe; one writer a file (the service holds the state lock)."""

    def __init__(self, path: str, fd: int, size: int, syncer: Syncer | None = None) -> None:
        """Use `create` or `open`."""
        self.path = path
        self.size = size
        self._fd = fd
        self._syncer = syncer

    @classmethod
    def create(cls, path: str, syncer: Syncer | None = None) -> Journal:
        """A new, empty journal; replaces a file of that name.

        Raises:
            JournalUnavailable: The file cannot be made or written.
        """
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise JournalUnavailable(f"{path}: {error.strerror}") from error
        journal = cls(path, fd, 0, syncer)
        try:
            journal._write(MAGIC)
        except JournalUnavailable:
            journal.close()
            raise
        return journal

    @classmethod
    def open(cls, path: str, syncer: Syncer | None = None) -> tuple[Journal, list[bytes]]:
        """Opens an existing journal, cuts a torn tail, and returns it with all payloads.

        Raises:
            JournalCorrupt: Damage in the middle, or not a journal.
            OSError: The file cannot be read.
        """
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        try:
            with open(path, "rb") as file:
                data = file.read()
            payloads, end = parse(path, data)
            if end != len(data):
                os.ftruncate(fd, end)
            journal = cls(path, fd, end, syncer)
            if end == 0:
                # Torn inside the header: nothing was ever recorded.
                journal._write(MAGIC)
        except BaseException:
            os.close(fd)
            raise
        return journal, payloads

    def append(self, payload: bytes) -> None:
        """Adds one record; it is in the kernel when this returns.

        Raises:
            JournalUnavailable: Nothing was added.
        """
        self.append_all([payload])

    def append_all(self, payloads: Iterable[bytes]) -> None:
        """Adds several records in one write: all or, for a reader after a crash, a prefix of them.

        Raises:
            JournalUnavailable: Nothing was added.
        """
        data = self._frames(payloads)
        if data:
            self._write(data)

    def rewrite(self, payloads: Iterable[bytes]) -> None:
        """Replaces the whole content atomically (compaction).

        Raises:
            JournalUnavailable: The old content stands.
        """
        temporary = f"{self.path}.new"
        data = MAGIC + self._frames(payloads)
        fd = -1
        try:
            fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
            _write_all(fd, data)
            os.rename(temporary, self.path)
        except OSError as error:
            if fd >= 0:
                os.close(fd)
                # Half of it would only keep a full disk full.
                os.unlink(temporary)
            raise JournalUnavailable(f"{temporary}: {error.strerror}") from error
        self.close()
        self._fd = fd
        self.size = len(data)
        self._mark_dirty()

    def close(self) -> None:
        """Closes the file. Further appends are errors of the program."""
        if self._fd >= 0:
            if self._syncer is not None:
                self._syncer.discard(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _frames(self, payloads: Iterable[bytes]) -> bytes:
        frames = []
        for payload in payloads:
            if len(payload) > MAX_PAYLOAD:
                raise RecordTooLong(f"{self.path}: a record of {len(payload)} bytes is longer than {MAX_PAYLOAD}")
            frames.append(frame(payload))
        return b"".join(frames)

    def _write(self, data: bytes) -> None:
        try:
            _write_all(self._fd, data)
        except OSError as error:
            try:
                os.ftruncate(self._fd, self.size)
            except OSError as cut:
                raise JournalUnavailable(f"{self.path}: {error.strerror}; cutting it back: {cut.strerror}") from error
            raise JournalUnavailable(f"{self.path}: {error.strerror}") from error
        self.size += len(data)
        self._mark_dirty()

    def _mark_dirty(self) -> None:
        if self._syncer is not None:
            self._syncer.mark(self._fd)


def frame(payload: bytes) -> bytes:
    """One record as it stands in the file."""
    return _FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def parse(path: str, data: bytes) -> tuple[list[bytes], int]:
    """Splits a journal's content; returns the payloads and the length of the sound part.

    Args:
        path: Named in errors.
        data: The whole file.

    Raises:
        JournalCorrupt: Damage that is not a torn tail.
    """
    if len(data) < len(MAGIC):
        if MAGIC.startswith(data):
            return [], 0
        raise JournalCorrupt(path, 0, "not a journal")
    if data[: len(MAGIC)] != MAGIC:
        raise JournalCorrupt(path, 0, "not a journal of this format")
    payloads = []
    offset = len(MAGIC)
    while offset < len(data):
        start = offset + _FRAME.size
        if start > len(data):
            break
        length, checksum = _FRAME.unpack_from(data, offset)
        end = start + length
        if length > MAX_PAYLOAD or end > len(data):
            if length > MAX_PAYLOAD and any(data[offset:]):
                raise JournalCorrupt(path, offset, f"record of {length} bytes")
            break
        payload = data[start:end]
        if zlib.crc32(payload) != checksum:
            if end == len(data):
                break
            raise JournalCorrupt(path, offset, "wrong checksum")
        if length == 0 and not any(data[offset:]):
            # Blocks that were allocated and never written.
            break
        payloads.append(payload)
        offset = end
    return payloads, offset


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


class Syncer:
    """Flushes dirty journals to the disk in one background thread, at most every `interval` seconds.

    Only a crash of the host needs this, so nobody waits for it; errors are counted and left to the next append.
    """

    def __init__(self, interval: float = 0.05) -> None:
        self._interval = interval
        self._condition = threading.Condition()
        self._dirty: dict[int, int] = {}
        self._stopped = False
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
                except OSError:
                    self.errors += 1
                os.close(duplicate)
            if stopped:
                return
