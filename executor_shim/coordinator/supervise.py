"""When a driver counts as frozen, and when its successor starts. Pure: no clock, no I/O; times are seconds."""

from __future__ import annotations

INFINITY = float("inf")

LATE = 5.0
"""If the coordinator itself woke so much too late, silence says nothing about the driver."""

MAX_DEATHS = 10
WINDOW = 60.0
"""`MAX_DEATHS` deaths within `WINDOW` seconds: the driver is beyond help."""

_DELAYS = (0.0, 0.0, 0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0)
"""Pause before the next start, by the number of deaths within `WINDOW`."""


class Supervisor:
    """Beats and deaths in, decisions out.

    | state    | event                              | next     | decision               |
    |----------|------------------------------------|----------|------------------------|
    | running  | beat, or coordinator was late      | running  | `frozen_at` moves on   |
    | running  | `frozen_at` reached                | doomed   | kill it                |
    | running, doomed | died, fewer than `MAX_DEATHS` | waiting | start at `start_at`   |
    | running, doomed | died, `MAX_DEATHS` in `WINDOW` | over  | end everything         |
    | waiting  | `start_at` reached                 | (started) running | start it      |
    """

    __slots__ = ("_deaths", "_timeout", "frozen_at", "start_at")

    def __init__(self, beat_timeout: float = 10.0) -> None:
        self._timeout = beat_timeout
        self._deaths: list[float] = []
        self.frozen_at = INFINITY
        """When the running driver will count as frozen."""
        self.start_at = INFINITY
        """When the next driver is to be started."""

    def started(self, now: float) -> None:
        """A driver runs since `now`."""
        self.frozen_at = now + self._timeout
        self.start_at = INFINITY

    def beat(self, now: float) -> None:
        """The driver has given a sign of life."""
        if self.frozen_at != INFINITY:
            self.frozen_at = now + self._timeout

    def woke(self, expected: float, now: float) -> None:
        """The coordinator wanted to wake at `expected` and did at `now`."""
        if now - expected > LATE:
            self.beat(now)

    def frozen(self, now: float) -> bool:
        """True once, when the running driver has been silent for too long: kill it."""
        if now < self.frozen_at:
            return False
        self.frozen_at = INFINITY
        return True

    def died(self, now: float) -> bool:
        """The driver is gone. Returns False when it has died too often; else `start_at` says when to go on."""
        self.frozen_at = INFINITY
        self._deaths = [death for death in self._deaths if now - death < WINDOW]
        self._deaths.append(now)
        if len(self._deaths) >= MAX_DEATHS:
            return False
        self.start_at = now + _DELAYS[len(self._deaths) - 1]
        return True

    def due(self) -> float:
        """When this wants to be asked again."""
        return min(self.frozen_at, self.start_at)
