"""What a directory takes, like du: allocated blocks, hard links once, no link followed, no mount entered.

The tree belongs to the task, which may build it to hurt: millions of entries, a depth beyond every limit, directories
that move while they are walked. So one descriptor is open at a time and the way back is checked, memory is bounded, and
half of the time the walk rests.
"""

from __future__ import annotations

import os
import re
import stat
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
# The way to it is the agent's.
_TOP = _DIRECTORY & ~os.O_NOFOLLOW
_BLOCK = 512
# Names of directories that wait, and files with several names that are remembered.
MAX_PENDING = 100_000
MAX_LINKS = 100_000
MAX_DEPTH = 10_000
# A tree may grow faster than it is walked.
MAX_ENTRIES = 50_000_000
# Entries after which the walk rests for as long as they have taken.
_REST_AFTER = 256
# A process is a directory by its name only here: at most so many are told apart.
_MAX_LOGS = 1000


@dataclass(slots=True)
class Walked:
    """Result of a walk."""

    used: int = 0
    entries: int = 0
    # Something could not be looked at: it is at least this much.
    partial: bool = False
    # Bytes below each directory of the log directory.
    logs: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Level:
    """A directory on the way from the top."""

    id: tuple[int, int]
    # Directories in it that are still to be walked.
    pending: list[str]
    # Of which process these are the logs; empty: of none; None: this is the directory of logs.
    label: str | None


class Walk:
    """One walk. Blocks: belongs into a thread."""

    def __init__(self, top: str, logs: str = "", rest: Callable[[float], bool] = lambda _: False) -> None:
        """Starts nothing.

        Args:
            top: The directory.
            logs: Name of the directory in it that has one directory of logs a process.
            rest: Waits for so many seconds; True: the walk is to end.
        """
        self._top = top
        self._logs = logs
        self._rest = rest
        self._seen: set[tuple[int, int]] = set()
        self._mounts = mount_points(top)
        self._levels: list[_Level] = []
        self._pending = 0
        self._since = time.monotonic()
        self._stopped = False
        self._device = 0
        self.result = Walked()

    def run(self) -> Walked | None:
        """Walks; None: ended by `rest`. Raises OSError when `top` itself cannot be walked."""
        here = os.open(self._top, _TOP)
        try:
            status = os.fstat(here)
            self._device = status.st_dev
            self._add(status, "")
            self._enter(here, status, "")
            while self._levels and not self._stopped:
                here = self._step(here)
        finally:
            os.close(here)
        return None if self._stopped else self.result

    def _step(self, here: int) -> int:
        """One directory down, or one up. Returns the descriptor of where we are then."""
        level = self._levels[-1]
        if level.pending:
            name = level.pending.pop()
            self._pending -= 1
            return self._down(here, name, self._label(level, name))
        self._levels.pop()
        if not self._levels:
            return here
        return self._up(here)

    def _down(self, here: int, name: str, label: str | None) -> int:
        try:
            below = os.open(name, _DIRECTORY, dir_fd=here)
        except OSError:
            # No right, or it is something else by now.
            self.result.partial = True
            return here
        status = os.fstat(below)
        if self._foreign(status):
            os.close(below)
            return here
        os.close(here)
        self._enter(below, status, label)
        return below

    def _up(self, here: int) -> int:
        """To the parent, if it still is where we came from; else to the top of what is left, by its descriptor."""
        try:
            above = os.open("..", _DIRECTORY, dir_fd=here)
        except OSError:
            above = -1
        if above >= 0:
            status = os.fstat(above)
            if (status.st_dev, status.st_ino) == self._levels[-1].id:
                os.close(here)
                return above
            os.close(above)
        # It was moved while we were in it. Where its parent is now nobody knows: what was left to do there is given up.
        self.result.partial = True
        for level in self._levels[1:]:
            self._pending -= len(level.pending)
        del self._levels[1:]
        top = os.open(self._top, _TOP)
        os.close(here)
        return top

    def _enter(self, here: int, status: os.stat_result, label: str | None) -> None:
        level = _Level((status.st_dev, status.st_ino), [], label)
        self._levels.append(level)
        try:
            with os.scandir(here) as entries:
                for entry in entries:
                    self._look(entry, level)
                    if self._stopped:
                        return
        except OSError:
            self.result.partial = True

    def _look(self, entry: os.DirEntry[str], level: _Level) -> None:
        self._pause()
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError:
            # Gone meanwhile.
            return
        if not stat.S_ISDIR(status.st_mode):
            self._add(status, level.label)
        elif not self._foreign(status):
            self._add(status, self._label(level, entry.name))
            if self._pending < MAX_PENDING and len(self._levels) < MAX_DEPTH and self.result.entries < MAX_ENTRIES:
                level.pending.append(entry.name)
                self._pending += 1
            else:
                self.result.partial = True

    def _foreign(self, status: os.stat_result) -> bool:
        """Something is mounted there, be it of the same file system."""
        return status.st_dev != self._device or (status.st_dev, status.st_ino) in self._mounts

    def _label(self, level: _Level, name: str) -> str | None:
        """Whose logs are in a directory; None: it is the directory of logs itself."""
        if level.label is not None:
            is_logs = level is self._levels[0] and name == self._logs and name
            return None if is_logs else level.label
        known = name in self.result.logs or len(self.result.logs) < _MAX_LOGS
        return name if known and name.isprintable() else ""

    def _add(self, status: os.stat_result, label: str | None) -> None:
        self.result.entries += 1
        size = status.st_blocks * _BLOCK
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            key = (status.st_dev, status.st_ino)
            if key in self._seen:
                return
            if len(self._seen) < MAX_LINKS:
                self._seen.add(key)
            else:
                # Its share: with all its names in the tree the sum is the same.
                size //= status.st_nlink
        self.result.used += size
        if label:
            self.result.logs[label] = self.result.logs.get(label, 0) + size

    def _pause(self) -> None:
        if self.result.entries % _REST_AFTER:
            return
        now = time.monotonic()
        self._stopped = self._rest(now - self._since)
        self._since = time.monotonic()


def mount_points(top: str) -> set[tuple[int, int]]:
    """(device, inode) of what is mounted below `top`: a bind mount of the same file system shows by nothing else."""
    prefix = os.path.realpath(top).rstrip("/") + "/"
    found = set()
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            path = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), line.split()[4])
            if path.startswith(prefix):
                try:
                    status = os.stat(path)
                except OSError:
                    # Nothing that could be walked.
                    continue
                found.add((status.st_dev, status.st_ino))
    return found
