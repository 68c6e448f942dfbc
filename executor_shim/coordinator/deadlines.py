"""Absolute limits set from outside: when a task may no longer live, whatever its plan. Pure; times are seconds."""

from __future__ import annotations

INFINITY = float("inf")

ALL = ""
"""Stands for every task, also for those that are started later."""


class Deadlines:
    """Limits only ever move earlier, so that a late or repeated command can never prolong a life."""

    __slots__ = ("_fired", "_hard")

    def __init__(self) -> None:
        self._hard: dict[str, float] = {}
        self._fired: set[str] = set()

    def set(self, task: str, at: float) -> None:
        """Limit a task, or all with `ALL`."""
        if at < self._hard.get(task, INFINITY):
            self._hard[task] = at

    def limit(self, task: str) -> float | None:
        """The limit in force for a task: the earlier of its own and that of all."""
        at = min(self._hard.get(task, INFINITY), self._hard.get(ALL, INFINITY))
        return None if at == INFINITY else at

    def passed(self, task: str, now: float) -> bool:
        """Nothing of this task may run any more."""
        at = self.limit(task)
        return at is not None and at <= now

    def expire(self, now: float) -> list[str]:
        """Keys whose limit has been reached since the last call: kill everything of them."""
        reached = [task for task, at in self._hard.items() if at <= now and task not in self._fired]
        self._fired.update(reached)
        return reached

    def forget(self, task: str) -> None:
        """Drop a task's own limit."""
        self._hard.pop(task, None)
        self._fired.discard(task)

    def due(self) -> float:
        """When the next limit is reached."""
        return min((at for task, at in self._hard.items() if task not in self._fired), default=INFINITY)
