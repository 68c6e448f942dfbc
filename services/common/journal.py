"""Append-only log: what a service has decided, written before it acts. The format is that of `frames`.

An append is one write that has reached the kernel when it returns; it survives the death of the service. A crash of the
host may take the last 50 ms, and the tasks with them, so nothing waits for the disk (design: write before you act).
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from services.common.frames import MAGIC, MAX_PAYLOAD, JournalCorrupt, JournalVersion, frame, offset_of, parse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.common.descriptors import Descriptors
    from services.common.syncer import Syncer

__all__ = [
    "MAGIC",
    "MAX_PAYLOAD",
    "Journal",
    "JournalCorrupt",
    "JournalUnavailable",
    "JournalVersion",
    "RecordTooLong",
    "frame",
    "offset_of",
    "parse",
    "read",
]

_APPEND = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
_NEW = _APPEND | os.O_CREAT | os.O_TRUNC


class JournalUnavailable(Exception):
    """The record was not written (disk full, I/O error). The journal holds no part of it; append may be tried again."""


class RecordTooLong(JournalUnavailable):
    """A record is longer than `MAX_PAYLOAD`, so it could not be read again. To try again is of no use."""


class Journal:
    """One log file. Not thread-safe; one writer a file (the service holds the state lock)."""

    def __init__(
        self, path: str, fd: int, size: int, syncer: Syncer | None = None, descriptors: Descriptors | None = None
    ) -> None:
        """Use `create` or `open`."""
        self.path = path
        self.size = size
        # -1: the file is not open; the next append opens it.
        self._fd = fd
        self._syncer = syncer
        self._descriptors = descriptors
        # Something of a record that does not count may stand behind `size`.
        self._ragged = False
        self._closed = False

    @classmethod
    def create(
        cls,
        path: str,
        syncer: Syncer | None = None,
        descriptors: Descriptors | None = None,
        payloads: Iterable[bytes] = (),
    ) -> Journal:
        """A new journal with these records, written with its beginning; replaces a file of that name.

        Raises:
            JournalUnavailable: The file cannot be made or written.
        """
        try:
            fd = _open(path, _NEW, descriptors)
        except OSError as error:
            raise JournalUnavailable(f"{path}: {error.strerror}") from error
        journal = cls(path, fd, 0, syncer, descriptors)
        try:
            journal._write(MAGIC + journal._frames(payloads))
        except JournalUnavailable:
            journal.close()
            raise
        return journal

    @classmethod
    def open(
        cls,
        path: str,
        syncer: Syncer | None = None,
        descriptors: Descriptors | None = None,
        *,
        keep_first: bool = False,
    ) -> tuple[Journal, list[bytes]]:
        """Opens an existing journal, cuts a torn tail, and returns it with all payloads.

        Args:
            path: The file.
            syncer: Brings what is written to the disk.
            descriptors: Bounds the number of files that are open at a time; None: this one stays open.
            keep_first: A first record that is not whole is damage, too, so that nothing of the file is lost.

        Raises:
            JournalVersion: It is one of another format version.
            JournalCorrupt: Damage in the middle, or not a journal.
            JournalUnavailable: There was nothing in it, not even a whole header, and no room to write one.
            OSError: The file cannot be read.
        """
        fd = _open(path, _APPEND, descriptors)
        try:
            data = _read_all(path, fd)
            payloads, end = parse(path, data, keep_first=keep_first)
            if end != len(data):
                os.ftruncate(fd, end)
        except BaseException:
            os.close(fd)
            raise
        journal = cls(path, fd, end, syncer, descriptors)
        if end == 0:
            # Torn inside the header: nothing was ever recorded.
            try:
                journal._write(MAGIC)
            except JournalUnavailable:
                journal.close()
                raise
        elif descriptors is not None:
            descriptors.use(journal)
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
            fd = _open(temporary, _NEW, self._descriptors)
            _write_all(fd, data)
            os.rename(temporary, self.path)
        except OSError as error:
            if fd >= 0:
                os.close(fd)
                # Half of it would only keep a full disk full.
                os.unlink(temporary)
            raise JournalUnavailable(f"{temporary}: {error.strerror}") from error
        self.release()
        self._fd = fd
        self.size = len(data)
        self._ragged = False
        self._written()

    def close(self) -> None:
        """Closes the file for good. Further appends are errors of the program."""
        self._closed = True
        if self._descriptors is not None:
            self._descriptors.forget(self)
        self.release()

    def release(self) -> None:
        """Closes the file until the next append."""
        if self._fd >= 0:
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
        if self._closed:
            raise JournalUnavailable(f"{self.path}: closed")
        try:
            self._make_ready()
        except OSError as error:
            raise JournalUnavailable(f"{self.path}: {error.strerror}") from error
        try:
            _write_all(self._fd, data)
        except OSError as error:
            self._ragged = True
            try:
                self._cut()
            except OSError as cut:
                raise JournalUnavailable(f"{self.path}: {error.strerror}; cutting it back: {cut.strerror}") from error
            raise JournalUnavailable(f"{self.path}: {error.strerror}") from error
        self.size += len(data)
        self._written()

    def _make_ready(self) -> None:
        """Opens the file if it is not, and sees to it that it ends where our last record does."""
        if self._fd < 0:
            self._fd = _open(self.path, _APPEND, self._descriptors)
            length = os.fstat(self._fd).st_size
            if length != self.size and not self._ragged:
                self.release()
                raise JournalUnavailable(
                    f"{self.path}: is {length} bytes long and was {self.size}: somebody else has changed it"
                )
        if self._ragged:
            self._cut()

    def _cut(self) -> None:
        os.ftruncate(self._fd, self.size)
        self._ragged = False

    def _written(self) -> None:
        if self._syncer is not None:
            self._syncer.mark(self.path)
        if self._descriptors is not None:
            self._descriptors.use(self)


def read(path: str) -> tuple[list[bytes], int]:
    """Payloads of a journal and the length of its sound part; changes nothing, so another process may be writing it.

    Raises:
        JournalCorrupt: Damage in the middle, or not a journal.
        OSError: The file cannot be read.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = _read_all(path, fd)
    finally:
        os.close(fd)
    return parse(path, data)


def _open(path: str, flags: int, descriptors: Descriptors | None) -> int:
    return os.open(path, flags, 0o600) if descriptors is None else descriptors.open(path, flags, 0o600)


def _read_all(path: str, fd: int) -> bytes:
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        # A device may have no end.
        raise JournalCorrupt(path, 0, "not a regular file")
    # A journal is mostly read in one piece; the last, empty piece says that it was all.
    pieces = []
    while piece := os.read(fd, max(os.fstat(fd).st_size, 1 << 16)):
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
