"""Descriptors that an event loop can wait on for news of a cgroup."""

from __future__ import annotations

import os
import select


class EventWatch:
    """An eventfd, to be given to cgroup.event_control of version 1."""

    def __init__(self) -> None:
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def fileno(self) -> int:
        """See `contract.Watch`."""
        return self._event

    def drain(self) -> bool:
        """See `contract.Watch`."""
        try:
            return os.eventfd_read(self._event) > 0
        except BlockingIOError:
            return False

    def close(self) -> None:
        """See `contract.Watch`."""
        os.close(self._event)


class FileWatch:
    """A file of version 2 that tells of changes by POLLPRI. It is always readable, so an epoll stands before it."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._epoll = select.epoll()
        self._epoll.register(self._file, select.EPOLLPRI | select.EPOLLET)
        self.drain()

    def fileno(self) -> int:
        """See `contract.Watch`."""
        return self._epoll.fileno()

    def drain(self) -> bool:
        """See `contract.Watch`."""
        woken = bool(self._epoll.poll(0))
        # What has been read is no news any more.
        os.pread(self._file, 4096, 0)
        return woken

    def close(self) -> None:
        """See `contract.Watch`."""
        self._epoll.close()
        os.close(self._file)
