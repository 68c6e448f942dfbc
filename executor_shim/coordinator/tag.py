"""The tag: a number that all processes of a run inherit, even those that shed session, parent and environment.

It is the soft limit for file locks (RLIMIT_LOCKS): Linux has not enforced that one since 2.6, hands it on at fork and
exec, and shows it to everybody in /proc/PID/limits, that of a zombie too. Only a process that sets this very limit
loses its tag.
"""

from __future__ import annotations

import resource

from executor_shim.coordinator import linux

_LOCKS = 10  # RLIMIT_LOCKS: the same on all architectures, but not in the standard library.
_LINE = b"\nMax file locks "
_DIGITS = 16

USABLE = resource.getrlimit(_LOCKS)[1] == resource.RLIM_INFINITY
"""Somebody who has set the limit for the whole container leaves no room for tags."""


def of(marker: str) -> int:
    """The tag that goes with a run marker: as random as that, and below every number that means no limit."""
    return int(marker[-_DIGITS:], 16) >> 3 | 1 << 61


def wear(marker: str) -> None:
    """Tag this process and all that it will start. Raises OSError."""
    if USABLE:
        resource.setrlimit(_LOCKS, (of(marker), resource.RLIM_INFINITY))


def read(pid: int) -> int:
    """The tag of a process; 0 when it has none."""
    try:
        _, found, rest = linux.read_file(f"/proc/{pid}/limits").partition(_LINE)
    except OSError:
        return 0
    value = rest.split(None, 1)[0] if found else b""
    return int(value) if value.isdigit() else 0
