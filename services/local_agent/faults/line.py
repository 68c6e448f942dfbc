"""What waits in line for its turn. No clock, no I/O: time is an argument."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class Entry(Generic[T]):
    """One thing in line.

    `fault_id`: who holds it back, empty: nobody. `due`: until when, monotonic seconds; None: until it is freed.
    """

    item: T
    fault_id: str = ""
    due: float | None = 0.0

    def free(self) -> None:
        """Nobody holds it back any more; it still waits for those before it."""
        self.fault_id = ""
        self.due = 0.0


class Line(Generic[T]):
    """First in, first out; an entry that is held back holds back all behind it."""

    def __init__(self) -> None:
        self._entries: deque[Entry[T]] = deque()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def last(self) -> Entry[T] | None:
        """The newest that still waits."""
        return self._entries[-1] if self._entries else None

    def push(self, entry: Entry[T]) -> None:
        """To the end."""
        self._entries.append(entry)

    def ready(self, now: float) -> bool:
        """Whether the first one may go."""
        if not self._entries:
            return False
        due = self._entries[0].due
        return due is not None and due <= now

    def pop(self) -> T:
        """The first one, which is ready."""
        return self._entries.popleft().item

    def next_due(self) -> float | None:
        """When the first one may go; None: it is not a matter of time."""
        return self._entries[0].due if self._entries else None

    def free(self, fault_id: str) -> None:
        """What this fault holds back is held back no more."""
        for entry in self._entries:
            if entry.fault_id == fault_id:
                entry.free()

    def clear(self) -> None:
        """All is lost."""
        self._entries.clear()

    def waiting(self, fault_id: str) -> int:
        """How many this fault keeps: those that it holds back, and those behind them that nobody else holds back."""
        count, holder = 0, ""
        for entry in self._entries:
            holder = entry.fault_id or holder
            count += holder == fault_id
        return count
