"""Children that are nobody's container: an earlier life of this process left them (`execve` keeps the process id)."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from services.local_agent.containers.process_tree import read_table

if TYPE_CHECKING:
    from collections.abc import Callable, Collection


class UnknownChildren:
    """Reaps them when they end, whatever they were: nobody else does. Belongs to one event loop."""

    def __init__(self, reaped: Callable[[], None]) -> None:
        """`reaped` is told of each end: who ends may have made a sibling of itself, as first programs do."""
        self._reaped = reaped
        # By pid.
        self._pidfds: dict[int, int] = {}

    def watch(self, known: Collection[int]) -> None:
        """All children but those with the pids `known`, whom somebody else reaps."""
        loop = asyncio.get_running_loop()
        for row in read_table():
            if row.parent == os.getpid() and row.pid not in known and row.pid not in self._pidfds:
                # Works for one that has ended, too: until it is reaped it has its number.
                self._pidfds[row.pid] = pidfd = os.pidfd_open(row.pid)
                loop.add_reader(pidfd, self._ended, row.pid)

    def close(self) -> None:
        """Leaves them alone."""
        for pidfd in self._pidfds.values():
            asyncio.get_running_loop().remove_reader(pidfd)
            os.close(pidfd)
        self._pidfds.clear()

    def _ended(self, pid: int) -> None:
        pidfd = self._pidfds.pop(pid)
        asyncio.get_running_loop().remove_reader(pidfd)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
        os.close(pidfd)
        self._reaped()
