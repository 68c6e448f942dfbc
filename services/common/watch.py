"""Watch streams for operators: everything that is true now, then every change."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

T = TypeVar("T")


class SlowSubscriber(Exception):
    """The subscriber did not keep up; what it has missed it gets by watching again."""


class Broadcast(Generic[T]):
    """Passes published items to all current subscribers. Belongs to one event loop."""

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._queues: set[asyncio.Queue[T | None]] = set()

    def publish(self, item: T) -> None:
        """Hands `item` to every subscriber; never blocks."""
        for queue in list(self._queues):
            if queue.qsize() >= self._limit:
                self._queues.discard(queue)
                queue.put_nowait(None)
            else:
                queue.put_nowait(item)

    @property
    def watched(self) -> bool:
        """Somebody listens: worth building the item."""
        return bool(self._queues)

    async def subscribe(self, snapshot: Iterable[T]) -> AsyncGenerator[T, None]:
        """First `snapshot`, then what is published from this call on.

        Raises:
            SlowSubscriber: More than `limit` items wait to be taken.
        """
        queue: asyncio.Queue[T | None] = asyncio.Queue()
        self._queues.add(queue)
        try:
            for item in snapshot:
                yield item
            while True:
                following = await queue.get()
                if following is None:
                    raise SlowSubscriber("too slow: watch again")
                yield following
        finally:
            self._queues.discard(queue)
