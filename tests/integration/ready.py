"""Waiting for descriptors. Not with select(): a worker that has run a thousand tests has numbers beyond its 1024."""

from __future__ import annotations

import select
from typing import Protocol


class HasFileno(Protocol):
    """What poll takes."""

    def fileno(self) -> int: ...


def readable(fd: int | HasFileno, timeout: float) -> bool:
    """Whether something can be read within `timeout` seconds."""
    return _wait(fd, select.POLLIN, timeout)


def writable(fd: int | HasFileno, timeout: float) -> bool:
    """Whether something can be written within `timeout` seconds."""
    return _wait(fd, select.POLLOUT, timeout)


def _wait(fd: int | HasFileno, event: int, timeout: float) -> bool:
    poll = select.poll()
    poll.register(fd, event)
    return bool(poll.poll(timeout * 1000))
