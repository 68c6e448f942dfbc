"""Append-only log: what a service has decided, written before it acts.

Layout: an 8-byte header (magic, format version), then frames of length (u32), CRC-32 (u32), payload. An append is one
write that has reached the kernel when it returns; it survives the death of the service. A crash of the host may take
the last 50 ms, and the tasks with them, so nothing waits for the disk (design: write before you act).

What a reader finds at the end of a file decides what it means:

    incomplete last frame, or zeros to the end     torn by a crash: cut off
    a whole frame with a wrong checksum, then more   damage: `JournalCorrupt` with file and offset
    a wrong checksum in the very last frame        torn (blocks of one write may reach the disk in any order): cut off
    either, and a sound frame behind its start     damage: its length is wrong, and hides what was recorded after it
    a length that is wrong, a checksum that is not   damage
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from services.common.syncer import Syncer

MAGIC = b"TRVTJ\x00\x00\x01"
_FRAME = struct.Struct("<II")
# More is refused when written, so when read it is damage, not data. The longest that is written: one executor's call to
# the local agent, 64 MiB and a third more as base64.
MAX_PAYLOAD = 128 << 20
# Where a frame may begin: a length that is neither 0 nor beyond `MAX_PAYLOAD`. Rare in text, so the search is quick.
_MAY_BEGIN = re.compile(rb"(?s)(?=...[\x00-\x08])(?!\x00{4})")
# Bytes that are summed up in the search for a sound frame, and as many times the tail: hostile bytes end it as damage.
_SEARCH_BYTES = 16 << 20
_SEARCH_FACTOR = 4


class JournalCorrupt(Exception):
    """Damage in the middle of a journal: what follows `offset` cannot be trusted."""

    def __init__(self, path: str, offset: int, why: str, payloads: Sequence[bytes] = ()) -> None:
        """`payloads`: the sound records before the damage."""
        super().__init__(f"{path}: damaged at offset {offset}: {why}")
        self.path = path
        self.offset = offset
        self.why = why
        self.payloads = payloads


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
    def create(cls, path: str, syncer: Syncer | None = None, payloads: Iterable[bytes] = ()) -> Journal:
        """A new journal with these records, written with its beginning; replaces a file of that name.

        Raises:
            JournalUnavailable: The file cannot be made or written.
        """
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise JournalUnavailable(f"{path}: {error.strerror}") from error
        journal = cls(path, fd, 0, syncer)
        try:
            journal._write(MAGIC + journal._frames(payloads))
        except JournalUnavailable:
            journal.close()
            raise
        return journal

    @classmethod
    def open(cls, path: str, syncer: Syncer | None = None, *, keep_first: bool = False) -> tuple[Journal, list[bytes]]:
        """Opens an existing journal, cuts a torn tail, and returns it with all payloads.

        Args:
            path: The file.
            syncer: Brings what is written to the disk.
            keep_first: A first record that is not whole is damage, too, so that nothing of the file is lost.

        Raises:
            JournalCorrupt: Damage in the middle, or not a journal.
            OSError: The file cannot be read.
        """
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        try:
            data = _read_all(fd)
            payloads, end = parse(path, data, keep_first=keep_first)
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


def parse(path: str, data: bytes, *, keep_first: bool = False) -> tuple[list[bytes], int]:
    """Splits a journal's content; returns the payloads and the length of the sound part.

    Args:
        path: Named in errors.
        data: The whole file.
        keep_first: See `Journal.open`.

    Raises:
        JournalCorrupt: Damage that is not a torn tail.
    """
    if len(data) < len(MAGIC):
        if MAGIC.startswith(data):
            return [], 0
        raise JournalCorrupt(path, 0, "not a journal")
    if data[: len(MAGIC)] != MAGIC:
        raise JournalCorrupt(path, 0, "not a journal of this format")
    payloads: list[bytes] = []
    offset = len(MAGIC)
    while offset < len(data):
        start = offset + _FRAME.size
        if start > len(data):
            break
        length, checksum = _FRAME.unpack_from(data, offset)
        end = start + length
        if length > MAX_PAYLOAD or end > len(data):
            if length > MAX_PAYLOAD and any(data[offset:]):
                raise JournalCorrupt(path, offset, f"record of {length} bytes", payloads)
            break
        payload = data[start:end]
        if zlib.crc32(payload) != checksum:
            if end == len(data):
                break
            raise JournalCorrupt(path, offset, "wrong checksum", payloads)
        if length == 0 and not any(data[offset:]):
            # Blocks that were allocated and never written.
            break
        payloads.append(payload)
        offset = end
    if offset < len(data):
        why = _hidden(data, offset) or ("the first record is not whole" if keep_first and not payloads else "")
        if why:
            raise JournalCorrupt(path, offset, why, payloads)
    return payloads, offset


def _hidden(data: bytes, offset: int) -> str:
    """Why what begins at `offset` is no torn tail, though its first frame is not whole; empty: it is one."""
    start = offset + _FRAME.size
    if start < len(data) and any(data[offset:]):
        length, checksum = _FRAME.unpack_from(data, offset)
        # A torn record lacks bytes, so its sum cannot be right.
        if start + length != len(data) and zlib.crc32(memoryview(data)[start:]) == checksum:
            return f"record of {length} bytes, its checksum is that of {len(data) - start}"
    room = _SEARCH_BYTES + _SEARCH_FACTOR * (len(data) - offset)
    view = memoryview(data)
    for match in _MAY_BEGIN.finditer(data, offset + 1, len(data.rstrip(b"\0")) + _FRAME.size):
        start = match.start() + _FRAME.size
        if start >= len(data):
            break
        length, checksum = _FRAME.unpack_from(data, match.start())
        if start + length > len(data):
            continue
        room -= length
        if room < 0:
            return "not a whole record, and what follows cannot be told from damage"
        if zlib.crc32(view[start : start + length]) == checksum:
            return f"not a whole record, but a sound one follows at offset {match.start()}"
    return ""


def offset_of(payloads: Sequence[bytes], index: int) -> int:
    """Where the record `payloads[index]` begins in its file."""
    return len(MAGIC) + sum(_FRAME.size + len(payload) for payload in payloads[:index])


def read(path: str) -> tuple[list[bytes], int]:
    """Payloads of a journal and the length of its sound part; changes nothing, so another process may be writing it.

    Raises:
        JournalCorrupt: Damage in the middle, or not a journal.
        OSError: The file cannot be read.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = _read_all(fd)
    finally:
        os.close(fd)
    return parse(path, data)


def _read_all(fd: int) -> bytes:
    # A journal is mostly read in one piece; the last, empty piece says that it was all.
    pieces = []
    while piece := os.read(fd, max(os.fstat(fd).st_size, 1 << 16)):
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
