"""Processes first: while a start is under way, what is only to be told waits.

On a machine with few processors health and reporter would otherwise think about a new task at the very moment at which
the coordinator forks it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

# A start that takes longer (a slow disk, a frozen process) holds nothing back any more. Seconds.
LIMIT = 0.01


class Holdback:
    """Keeps the order of what it holds back."""

    def __init__(self) -> None:
        self._under_way: set[Hashable] = set()
        self._waiting: list[Callable[[], None]] = []
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, start: Hashable) -> None:
        """A start has been ordered."""
        self._under_way.add(start)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LIMIT, self._release)

    def end(self, start: Hashable) -> None:
        """The coordinator has said what became of it."""
        self._under_way.discard(start)
        if not self._under_way:
            self._release()

    def pass_on(self, action: Callable[[], None]) -> None:
        """Does it now, or when no start is under way any more."""
        if self._under_way:
            self._waiting.append(action)
        else:
            action()

    def _release(self) -> None:
        self._under_way.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, []
        for action in waiting:
            action()
