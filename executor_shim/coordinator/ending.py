"""When the coordinator itself may exit, and with which code. Pure: no clock, no I/O; times are seconds.

| state       | event                                           | exit                        |
|-------------|-------------------------------------------------|-----------------------------|
| open        | -                                               | -                           |
| terminating | everything dead for `ALONE` s, driver said nothing | 1                        |
| ending      | everything dead, driver gone (or `PARTING` s)   | the code that was asked for |
| ending      | `LIMIT` s and something is left                 | the code, but never 0       |
"""

from __future__ import annotations

INFINITY = float("inf")

ALONE = 1.5
"""Seconds that the driver has, after the last process died, to deliver its statuses when Mesos ended the executor."""

PARTING = 1.0
"""Seconds that the driver has to leave once everything else is over."""

LIMIT = 10.0
"""Seconds until processes that survive SIGKILL no longer hold the end back: the agent destroys the container."""


class Ending:
    """SIGTERM and `end` in, exit code out."""

    __slots__ = ("_by", "_code", "_exit_at", "deadline")

    def __init__(self) -> None:
        self.deadline: float | None = None
        """SIGTERM came: nothing may live after this."""
        self._code: int | None = None
        self._by = INFINITY
        self._exit_at = INFINITY

    @property
    def ending(self) -> bool:
        """Everything is being killed for good; no driver and no process is started any more."""
        return self._code is not None

    @property
    def begun(self) -> bool:
        """The executor is to go, now or when all is over."""
        return self._code is not None or self.deadline is not None

    def terminate(self, deadline: float) -> None:
        """Mesos wants the executor to be gone by `deadline`; a later call may only make it earlier."""
        self.deadline = deadline if self.deadline is None else min(self.deadline, deadline)

    def end(self, code: int, now: float) -> None:
        """Close shop. The first call wins."""
        if self._code is None:
            self._code = code
            self._by = now + LIMIT
            self._exit_at = INFINITY

    def check(self, *, quiet: bool, driver: bool, now: float) -> int | None:
        """The code to exit with now, or None.

        Args:
            quiet: no process of any task is left, strays included.
            driver: a driver is alive.
            now: time.
        """
        if not self.begun:
            return None
        if not quiet:
            self._exit_at = INFINITY
            return None if now < self._by else self._code or 1
        if self._code is not None:
            if not driver:
                return self._code
            self._exit_at = min(self._exit_at, now + PARTING)
            return self._code if now >= self._exit_at else None
        self._exit_at = min(self._exit_at, now + ALONE)
        return 1 if now >= self._exit_at else None

    def due(self) -> float:
        """When this wants to be asked again."""
        return min(self._by, self._exit_at)
