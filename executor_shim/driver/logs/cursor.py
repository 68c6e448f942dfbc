"""A place in a log that others write, cut off, rename and remove meanwhile. Blocking: used by one thread at a time.

Backups are `NAME.1`, the newest, to `NAME.N` (the pump's way of rotating). A file that is being read stays readable
when it is renamed or removed; which one comes after it is found by inode numbers.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from executor_shim.driver.logs.files import LogMissing, inode, open_directory, open_file

PIECE_BYTES = 64 << 10
# How far back the last lines are looked for.
TAIL_BYTES = 16 << 20
# A sandbox may hold any number of files with such names.
_MAX_BACKUPS = 1000
_ATTEMPTS = 5

NOTHING, ROTATED, GAP, TRUNCATED = range(4)
"""Numbers of trivet.runner.v1.LogEvent."""


class Piece(NamedTuple):
    """What was read. Without data and event: the end, for now."""

    data: bytes
    offset: int
    file: int
    event: int = NOTHING

    @property
    def at_end(self) -> bool:
        """Nothing is there to be read."""
        return not self.data and self.event == NOTHING


class Cursor:
    """Begins where it is told to, and goes on through rotations."""

    def __init__(self, sandbox: str, path: str) -> None:
        """Opens nothing yet."""
        self._sandbox = sandbox
        self._path = path
        self._name = ""
        self._event = NOTHING
        self.directory = -1
        self.fd = -1
        self.offset = 0

    def open(self, *, file: int, offset: int, tail_lines: int) -> None:
        """Finds the beginning.

        Args:
            file: Inode of the file that `offset` is in; 0: the current one.
            offset: In bytes.
            tail_lines: Instead of all that: the last lines of the current file.

        Raises:
            LogMissing: There is no such file.
            LogRefused: It is something that is not read.
            OSError: It cannot be read.
        """
        self.directory, self._name = open_directory(self._sandbox, self._path)
        number = 0
        if file and not tail_lines and inode(self.directory, self._name) != file:
            known = self._number_of(file)
            if known is None:
                number, self._event, offset = self._oldest(), GAP, 0
            else:
                number = known
        self.fd = self._open(number)
        self.offset = _tail(self.fd, tail_lines) if tail_lines else offset

    def read(self, most: int) -> Piece:
        """At most `most` and PIECE_BYTES bytes, and never beyond an event. Raises OSError."""
        if self._event != NOTHING:
            event, self._event = self._event, NOTHING
            return self._piece(b"", event)
        if os.fstat(self.fd).st_size < self.offset:
            self.offset = 0
            return self._piece(b"", TRUNCATED)
        # Looked at before the file: what was written before the renaming is read then.
        current = inode(self.directory, self._name)
        piece = self._piece(os.pread(self.fd, min(most, PIECE_BYTES), self.offset))
        self.offset += len(piece.data)
        if piece.data or current in (0, piece.file):
            return piece
        return self._go_on(piece)

    def close(self) -> None:
        """Lets go of everything. May be called at any time, and twice."""
        for fd in (self.fd, self.directory):
            if fd >= 0:
                os.close(fd)
        self.fd = self.directory = -1

    def _piece(self, data: bytes, event: int = NOTHING) -> Piece:
        return Piece(data, self.offset, os.fstat(self.fd).st_ino, event)

    def _go_on(self, last: Piece) -> Piece:
        """To the file after this one, which has been read to its end."""
        for _ in range(_ATTEMPTS):
            here = self._number_of(last.file)
            number, event = (self._oldest(), GAP) if here is None else (here - 1, ROTATED)
            try:
                fd = self._open(number)
            except LogMissing:
                # Renamed again while we looked, or the new file is still to come.
                continue
            if self._number_of(last.file) == here:
                os.close(self.fd)
                self.fd, self.offset = fd, 0
                return self._piece(b"", event)
            os.close(fd)
        return last

    def _open(self, number: int) -> int:
        return open_file(self.directory, self._numbered(number), f"{self._path}{f'.{number}' if number else ''}")

    def _numbered(self, number: int) -> str:
        return f"{self._name}.{number}" if number else self._name

    def _number_of(self, file: int) -> int | None:
        """Number of the backup that has this inode; 0: the current file; None: it is gone."""
        for number in range(_MAX_BACKUPS):
            found = inode(self.directory, self._numbered(number))
            if found == file:
                return number
            # While files are renamed the current one, or the first backup, is missing for a moment.
            if not found and number > 1:
                break
        return None

    def _oldest(self) -> int:
        number = 0
        while number < _MAX_BACKUPS and inode(self.directory, self._numbered(number + 1)):
            number += 1
        return number


def _tail(fd: int, lines: int) -> int:
    """Where the last lines begin. A last line without an end counts as one."""
    size = os.fstat(fd).st_size
    position, wanted, first = size, lines, True
    while position > max(size - TAIL_BYTES, 0):
        start = max(position - PIECE_BYTES, 0)
        block = os.pread(fd, position - start, start)
        end = len(block)
        if first and block.endswith(b"\n"):
            end -= 1
        first = False
        while (end := block.rfind(b"\n", 0, end)) >= 0:
            wanted -= 1
            if not wanted:
                return start + end + 1
        position = start
    return position
