"""Descriptors and what to do when they are ready."""

from __future__ import annotations

import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

READ = select.POLLIN
WRITE = select.POLLOUT


class Poller:
    """`select.poll` with a handler per descriptor."""

    __slots__ = ("_handlers", "_poll")

    def __init__(self) -> None:
        self._poll = select.poll()
        self._handlers: dict[int, Callable[[], None]] = {}

    def add(self, fd: int, handler: Callable[[], None], events: int = READ) -> None:
        """Call `handler` whenever `fd` is ready for one of `events`, or broken. May be called again to change them."""
        self._poll.register(fd, events)
        self._handlers[fd] = handler

    def remove(self, fd: int) -> None:
        """Watch `fd` no longer: before it is closed."""
        if self._handlers.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def wait(self, seconds: float) -> list[int]:
        """Descriptors that have become ready within `seconds`."""
        # Rounded up: waking a little early would only mean to wait again.
        ready = self._poll.poll(max(0, min(int(seconds * 1000) + 1, 3_600_000)) if seconds > 0 else 0)
        return [fd for fd, _events in ready]

    def handler(self, fd: int) -> Callable[[], None] | None:
        """What to call for a ready descriptor; None when an earlier handler has removed it."""
        return self._handlers.get(fd)
