"""Which journals take no records, and whether there are any."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.common.keys import TaskKey


class Troubles:
    """Tasks that cannot be recorded at the moment."""

    def __init__(self) -> None:
        # Called with False when the first one comes, and with True when the last one has gone.
        self.on_soundness: Callable[[bool], None] = lambda _: None
        self._keys: set[TaskKey] = set()

    def note(self, key: TaskKey, *, trouble: bool) -> None:
        """The journal of a task takes no records, or takes them (again)."""
        before = bool(self._keys)
        if trouble:
            self._keys.add(key)
        else:
            self._keys.discard(key)
        if before != bool(self._keys):
            self.on_soundness(before)
