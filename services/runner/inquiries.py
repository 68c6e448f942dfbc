"""What is only asked of drivers: logs and usage. How those who ask hear of what happens in the runner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from services.common.keys import Executor, TaskKey
    from services.runner.book import Book

# Kinds of AttachRequest that go to the listeners alone.
KINDS = frozenset({"usage", "log_piece"})


class Listener(Protocol):
    """Called on the event loop, must not block."""

    def on_answer(self, key: TaskKey, kind: str, content: Any) -> None:
        """A driver's message of one of `KINDS`. The task may be unknown."""

    def on_detached(self, executor: Executor) -> None:
        """A driver is gone, for how long nobody knows."""

    def on_change(self, book: Book) -> None:
        """A task, or its driver's presence, may have changed. Must not change the task."""

    def on_gone(self, key: TaskKey) -> None:
        """A task is not live any more."""
