"""The one clock for everything that outlives a process."""

from __future__ import annotations

import time


def boottime() -> float:
    """CLOCK_BOOTTIME, seconds: goes on through suspend and is the same for all processes of the host."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
