"""A log in memory files that live as long as the container.

The coordinator makes two memfds and hands them to each driver. No full disk stops them, no task can edit them, and they
are gone when the container is. Compaction writes the other file whole and then its generation number: whatever moment
the driver is killed at, one of the two is complete.

Loaded before SUBSCRIBE is sent, so it imports next to nothing.
"""

from __future__ import annotations

import os
import struct
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_HEADER = struct.Struct("<Q")
_FRAME = struct.Struct("<II")


class MemoryLog:
    """Append-only records. A record is whole or absent."""

    def __init__(self, fds: tuple[int, int]) -> None:
        """Finds the newer of the two files."""
        self._fds = fds
        generations = [_generation(fd) for fd in fds]
        self._active = 0 if generations[0] >= generations[1] else 1
        self._generation = generations[self._active]
        self._size = _HEADER.size
        if not self._generation:
            self._generation = 1
            os.pwrite(self._fd, _HEADER.pack(1), 0)

    @property
    def _fd(self) -> int:
        return self._fds[self._active]

    @property
    def size(self) -> int:
        """Bytes in the active file."""
        return self._size

    def load(self) -> list[bytes]:
        """All records; cuts off what a killed driver left half written."""
        data = os.pread(self._fd, os.fstat(self._fd).st_size, 0)
        records: list[bytes] = []
        offset = _HEADER.size
        while offset + _FRAME.size <= len(data):
            length, checksum = _FRAME.unpack_from(data, offset)
            payload = data[offset + _FRAME.size : offset + _FRAME.size + length]
            if len(payload) < length or zlib.crc32(payload) != checksum:
                break
            records.append(payload)
            offset += _FRAME.size + length
        os.ftruncate(self._fd, offset)
        self._size = offset
        return records

    def append(self, payload: bytes) -> None:
        """Adds a record.

        Raises:
            OSError: Out of memory; nothing was added.
        """
        self._size += _write(self._fd, payload, self._size)

    def rewrite(self, payloads: Iterable[bytes]) -> None:
        """Replaces all records.

        Raises:
            OSError: Out of memory; the old records stand.
        """
        other = 1 - self._active
        fd = self._fds[other]
        os.ftruncate(fd, 0)
        size = _HEADER.size
        for payload in payloads:
            size += _write(fd, payload, size)
        os.pwrite(fd, _HEADER.pack(self._generation + 1), 0)
        os.ftruncate(self._fd, 0)
        self._active = other
        self._generation += 1
        self._size = size


def _generation(fd: int) -> int:
    header = os.pread(fd, _HEADER.size, 0)
    return int(_HEADER.unpack(header)[0]) if len(header) == _HEADER.size else 0


def _write(fd: int, payload: bytes, offset: int) -> int:
    data = _FRAME.pack(len(payload), zlib.crc32(payload)) + payload
    written = 0
    while written < len(data):
        written += os.pwrite(fd, data[written:], offset + written)
    return len(data)
