"""One timer at most for each key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable


class Timer(Protocol):
    """What `loop.call_later` returns."""

    def cancel(self) -> None:
        """The function is not called any more."""


class Timers:
    """Timers by key; starting one replaces the one before it."""

    def __init__(self, call_later: Callable[[float, Callable[[], None]], Timer]) -> None:
        """`call_later` as the event loop's: seconds, function."""
        self._call_later = call_later
        self._timers: dict[Hashable, Timer] = {}

    def start(self, key: Hashable, delay: float, function: Callable[[], None]) -> None:
        """Calls `function` in `delay` seconds."""

        def fire() -> None:
            del self._timers[key]
            function()

        self.cancel(key)
        self._timers[key] = self._call_later(max(0.0, delay), fire)

    def cancel(self, key: Hashable) -> None:
        """Stops the key's timer, if there is one."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    def clear(self) -> None:
        """Stops all timers."""
        for key in list(self._timers):
            self.cancel(key)
