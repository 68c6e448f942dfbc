"""What is held back by faults, and goes on in its old order: calls of a connection, events of a stream, connections."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from services.local_agent.faults.line import Entry, Line

if TYPE_CHECKING:
    from services.local_agent.faults.rules import Rule
    from services.local_agent.wire.http import Request

T = TypeVar("T")


class Caller(Protocol):
    """A connection, as faults see it."""

    def hand_in(self, request: Request) -> None:
        """The ordinary way of a request."""

    def hand_in_unanswered(self, request: Request) -> None:
        """The same, and every byte that would be written for it is thrown away."""

    def respond(self, status: int, body: str) -> None:
        """A whole response."""

    def write(self, data: bytes) -> None:
        """Bytes; nothing when the connection is gone."""

    def pause_reading(self, why: str) -> None:
        """Nothing more is read."""

    def resume_reading(self, why: str) -> None:
        """Reading goes on, if nothing else speaks against it."""

    def cut(self, *, reset: bool = False) -> None:
        """Ends the connection after what is written, or at once by a reset."""


class Registry(Protocol):
    """Knows who waits."""

    waiting: set[Waiting[Any]]


class Waiting(ABC, Generic[T]):
    """A line whose first entry is carried out as soon as nothing holds it back. Belongs to one event loop."""

    def __init__(self, registry: Registry, connection: Caller) -> None:
        self.connection = connection
        self.line: Line[T] = Line()
        self._registry = registry
        self._current: T | None = None
        self._handle: asyncio.Handle | None = None

    @abstractmethod
    def perform(self, item: T) -> bool:
        """Carries out; False: there is more to do in the next turn of the loop."""

    @property
    def busy(self) -> bool:
        """Something waits: whatever comes now comes behind it."""
        return self._current is not None or len(self.line) > 0

    def push(self, item: T, rule: Rule | None, *, collect: bool = False) -> None:
        """To the end; `rule` holds it back if that is its effect, or if it collects."""
        entry = Entry(item)
        effect = rule.fault.WhichOneof("effect") if rule is not None else ""
        if rule is not None and (collect or effect in ("hold", "delay")):
            entry.fault_id = rule.fault.id
            entry.due = asyncio.get_running_loop().time() + rule.fault.delay.seconds if effect == "delay" else None
        self.line.push(entry)
        self.pump()

    def free(self, fault_id: str) -> None:
        """What this fault holds back goes on, as far as nothing else holds it."""
        self.line.free(fault_id)
        self.pump()

    def held(self, fault_id: str) -> int:
        """How many wait because of this fault."""
        return self.line.waiting(fault_id)

    def lost(self) -> None:
        """The connection is gone."""
        self.close()

    def close(self) -> None:
        """What waits is lost."""
        self.line.clear()
        self._current = None
        self.pump()

    def pump(self) -> None:
        """Carries out what nothing holds back."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        loop = asyncio.get_running_loop()
        while self._current is not None or self.line.ready(loop.time()):
            item = self.line.pop() if self._current is None else self._current
            # Taken out of the line for good: what fails is not carried out once more by whatever comes next.
            self._current = None
            if not self.perform(item):
                self._current = item
                self._handle = loop.call_soon(self.pump)
                break
        else:
            due = self.line.next_due()
            if due is not None:
                self._handle = loop.call_at(due, self.pump)
        if self.busy:
            self._registry.waiting.add(self)
        else:
            self._registry.waiting.discard(self)
