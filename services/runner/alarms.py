"""Alarms on CLOCK_BOOTTIME: one heap, one timer of the event loop."""

from __future__ import annotations

import asyncio
import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

# The loop's clock stands still while the host sleeps, CLOCK_BOOTTIME does not: look again at least this often.
_MAX_DELAY = 60.0


class Alarms:
    """At most one alarm a name; setting it again moves it."""

    def __init__(self, clock: Callable[[], float], ring: Callable[[Hashable, float], None]) -> None:
        """Starts nothing.

        Args:
            clock: CLOCK_BOOTTIME in seconds.
            ring: Called on the event loop with the name and the time for which the alarm was set.
        """
        self._clock = clock
        self._ring = ring
        self._times: dict[Hashable, float] = {}
        self._heap: list[tuple[float, int, Hashable]] = []
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def set(self, name: Hashable, when: float | None) -> None:
        """Moves the alarm `name` to `when`; None takes it away."""
        if when is None:
            self._times.pop(name, None)
        elif self._closed:
            return
        elif self._times.get(name) != when:
            self._times[name] = when
            # The counter keeps names out of comparisons.
            self._count += 1
            heapq.heappush(self._heap, (when, self._count, name))
            if self._heap[0][2] == name:
                self._arm()

    def close(self) -> None:
        """Takes all alarms away; later ones are not set."""
        self._closed = True
        self._times.clear()
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._heap and self._times.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        if self._heap:
            delay = min(max(self._heap[0][0] - self._clock(), 0.0), _MAX_DELAY)
            self._timer = asyncio.get_running_loop().call_later(delay, self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = self._clock()
        due: list[tuple[Hashable, float]] = []
        while self._heap and self._heap[0][0] <= now:
            when, _, name = heapq.heappop(self._heap)
            if self._times.get(name) == when:
                del self._times[name]
                due.append((name, when))
        try:
            while due:
                self._ring(*due.pop(0))
        finally:
            # One that failed must not silence the others.
            for name, when in due:
                self.set(name, when)
            self._arm()
