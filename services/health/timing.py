"""Clock and timers of the health service."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.health.entry import Timer

# The fractional parts of its multiples fill the unit interval evenly, however many there are.
_GOLDEN = 0.6180339887498949


def boot_clock() -> float:
    """CLOCK_BOOTTIME, seconds: goes on over restarts of the service and suspends of the host."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def evenly() -> Callable[[], float]:
    """Numbers from 0 to 1 that keep away from each other: what is spread by them comes in no burst."""
    last = random.random()  # noqa: S311 - no secret

    def following() -> float:
        nonlocal last
        last = (last + _GOLDEN) % 1.0
        return last

    return following


class Schedule(Protocol):
    """`loop.call_later`."""

    def __call__(self, delay: float, callback: Callable[[], object], /) -> Timer:
        """Calls `callback` in `delay` seconds."""
