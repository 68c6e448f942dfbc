"""Open files of journals: at most so many at a time, and the one that was not used for longest is closed first.

There may be more tasks than descriptors. A file that was closed here is opened again when its journal is written to.
"""

from __future__ import annotations

import errno
import os
import resource
from typing import Protocol

# Of the descriptors that the process may have: the other half is for sockets.
_SHARE = 2
_MIN = 4
_MANY = 1 << 20
_EXHAUSTED = (errno.EMFILE, errno.ENFILE)


class Holder(Protocol):
    """Has one open file, and can do without it for a while."""

    def release(self) -> None:
        """Closes the file; the next use opens it again. Called on the thread that uses the file."""


class Descriptors:
    """All open files of one owner's journals. Not thread-safe."""

    def __init__(self, limit: int | None = None) -> None:
        """`limit`: files that may be open; None: half of what the process's soft limit allows at each moment."""
        self._limit = limit
        # Used longest ago first. A dict as an ordered set.
        self._holders: dict[Holder, None] = {}

    def __len__(self) -> int:
        return len(self._holders)

    @property
    def limit(self) -> int:
        """Files that may be open now."""
        if self._limit is not None:
            return self._limit
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return _MANY if soft == resource.RLIM_INFINITY else max(soft // _SHARE, _MIN)

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        """os.open. Where there is no descriptor left, files that others can do without are closed first.

        Raises:
            OSError: It cannot be opened, or there is nothing left to close.
        """
        while True:
            try:
                return os.open(path, flags, mode)
            except OSError as error:
                if error.errno not in _EXHAUSTED or not self._holders:
                    raise
                # Whoever else has run out needs some as well.
                self._close(max(len(self._holders) // 2, 1))

    def use(self, holder: Holder) -> None:
        """The holder's file is open, and used now: it is the last to be closed."""
        self._holders.pop(holder, None)
        self._holders[holder] = None
        excess = len(self._holders) - self.limit
        if excess > 0:
            self._close(min(excess, len(self._holders) - 1))

    def forget(self, holder: Holder) -> None:
        """The holder has closed its file itself."""
        self._holders.pop(holder, None)

    def _close(self, count: int) -> None:
        for holder in list(self._holders)[:count]:
            del self._holders[holder]
            holder.release()
