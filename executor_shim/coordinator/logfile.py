"""Where a log pump writes: files that never outgrow their limit, and the executor's own stdout and stderr.

Nothing in here raises or waits for long: what cannot be written is dropped, and the next thing written says how much
that was. The process whose output it is must not suffer from a full disk.
"""

from __future__ import annotations

import os
import select
import stat

_OPEN_LOG = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK

RESTARTED = b"[trivet: the log pump was started anew, some output may be missing]\n"

CONSOLE_WAIT = 1000
"""Milliseconds that a console which takes nothing is waited for, once; then all is dropped until it takes some."""

_NEWLINE = 10

_PIPE_BUF = select.PIPE_BUF
"""POSIX: a pipe that is ready takes so much without blocking."""


class LogRules:
    """What becomes of a run's output beyond a plain file (Thermos: Logger)."""

    __slots__ = ("backups", "console", "limit")

    def __init__(self, *, console: bool = False, limit: int = 0, backups: int = 0) -> None:
        self.console = console
        """Also, or only, to the executor's own stdout and stderr."""
        self.limit = limit
        """Bytes that a file never exceeds; 0: no limit."""
        self.backups = backups

    @property
    def pumped(self) -> bool:
        """Somebody has to stand between the process and its files."""
        return self.console or self.limit > 0


class Unwritable(Exception):
    """A log cannot be written, for a reason that is not the kernel's."""


def open_log(path: bytes) -> int:
    """Open a file to append to. No link is followed. Raises OSError, Unwritable."""
    # A FIFO that nobody reads would block here for ever: do not wait, and take nothing but files.
    fd = os.open(path, _OPEN_LOG, 0o644)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise Unwritable("not a regular file")
    os.set_blocking(fd, True)
    return fd


class _Target:
    """Counts what could not be written and says so as soon as that is possible."""

    __slots__ = ("_dropped", "_mid_line", "_why")

    def __init__(self) -> None:
        self._dropped = 0
        self._why = ""
        self._mid_line = False

    def _drop(self, count: int, error: OSError | Unwritable) -> None:
        self._dropped += count
        self._why = (error.strerror if isinstance(error, OSError) else str(error)) or "unknown error"

    def _note(self) -> bytes:
        start = b"\n" if self._mid_line else b""
        return start + f"[trivet: {self._dropped} bytes dropped: {self._why}]\n".encode("utf-8", "replace")


class LogFile(_Target):
    """One log file, with a limit and backups `.1` (newest) to `.N`, or without."""

    __slots__ = ("_backups", "_fd", "_limit", "_path")

    def __init__(self, path: bytes, rules: LogRules) -> None:
        """Opens nothing yet: the directory is made by the process that starts meanwhile."""
        super().__init__()
        self._path = path
        self._limit = rules.limit
        self._backups = max(rules.backups, 1)
        self._fd = -1

    def write(self, data: bytes) -> None:
        """Append. Whatever does not fit goes into the next file; what cannot be written at all is dropped."""
        rest = memoryview(data)
        try:
            if self._dropped:
                self._write_note()
            while rest:
                written = self._write_some(rest)
                self._mid_line = rest[written - 1] != _NEWLINE
                rest = rest[written:]
        except (OSError, Unwritable) as error:
            self._drop(len(rest), error)

    def close(self) -> None:
        """Say what is still to be said and close."""
        if self._dropped:
            self.write(b"")
        self._close()

    def _write_note(self) -> None:
        note = memoryview(self._note())
        while note:
            fd, room = self._ready()
            piece = note[:room]
            size = os.fstat(fd).st_size
            written = os.write(fd, piece)
            if written < len(piece):
                # On a disk that is all but full, every attempt would leave another half of a note.
                if os.fstat(fd).st_size == size + written:
                    os.ftruncate(fd, size)
                raise Unwritable(self._why)
            note = note[written:]
        self._dropped = 0
        self._mid_line = False

    def _write_some(self, data: memoryview) -> int:
        fd, room = self._ready()
        return os.write(fd, data[:room])

    def _ready(self) -> tuple[int, int]:
        """The file and how much it takes. Others may have cut it off or removed it since: so it is asked each time."""
        if self._fd >= 0:
            status = os.fstat(self._fd)
            if status.st_nlink == 0:
                self._close()
        if self._fd < 0:
            self._fd = open_log(self._path)
            status = os.fstat(self._fd)
        if not self._limit:
            return self._fd, 1 << 30
        if status.st_size >= self._limit:
            self._close()
            self._shift()
            self._fd = open_log(self._path)
            status = os.fstat(self._fd)
            if status.st_size >= self._limit:
                # Somebody was faster; the next attempt shifts again.
                raise Unwritable("the log is written by others")
        return self._fd, self._limit - status.st_size

    def _shift(self) -> None:
        """Make the file the first backup; the oldest goes. Looks only at those that exist: their number may be huge."""
        newest_free = 1
        while newest_free < self._backups and os.path.lexists(self._backup(newest_free)):
            newest_free += 1
        for number in range(newest_free, 1, -1):
            os.rename(self._backup(number - 1), self._backup(number))
        os.rename(self._path, self._backup(1))

    def _backup(self, number: int) -> bytes:
        return b"%s.%d" % (self._path, number)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Console(_Target):
    """The executor's own stdout or stderr: a file of the agent's, or a pipe to its logger. Never closed."""

    __slots__ = ("_fd", "_piece", "_poll", "_stuck")

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._stuck = False
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._piece = 1 << 30 if stat.S_ISREG(os.fstat(fd).st_mode) else _PIPE_BUF

    def write(self, data: bytes) -> None:
        """Write. A reader that has stopped must not stop the process: it is waited for a moment, and only once."""
        rest = memoryview(data)
        try:
            if self._dropped:
                self._write_all(memoryview(self._note()))
                self._dropped = 0
            while rest:
                rest = rest[self._write_some(rest) :]
            self._mid_line = not data.endswith(b"\n")
        except (OSError, Unwritable) as error:
            self._drop(len(rest), error)

    def _write_all(self, data: memoryview) -> None:
        while data:
            data = data[self._write_some(data) :]

    def _write_some(self, data: memoryview) -> int:
        if not self._poll.poll(0 if self._stuck else CONSOLE_WAIT):
            self._stuck = True
            raise Unwritable("nobody reads")
        self._stuck = False
        return os.write(self._fd, data[: self._piece])
