"""What has become of forked children: the pipes that exec closes, or on which they say why not."""

from __future__ import annotations

import os

from executor_shim.coordinator import spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from executor_shim.coordinator.poller import Poller
    from executor_shim.coordinator.runs import Run

TELL_AFTER = 0.02
"""Seconds until a fork is told by itself. Mostly exec is known before, and says as much: what is told in between only
takes the processor from the child."""

_MANY = 128
INFINITY = float("inf")


class Execs:
    """Runs between fork and exec."""

    __slots__ = ("_known", "_late", "_pipes", "_poller")

    def __init__(self, poller: Poller, known: Callable[[Run, str], None]) -> None:
        """Wire up.

        Args:
            poller: where pipes are watched.
            known: called once for each run: with an empty text when exec has happened, else with the error.
        """
        self._poller = poller
        self._known = known
        self._pipes: dict[Run, int] = {}
        self._late: dict[Run, float] = {}
        """Runs whose fork was not told yet, the oldest first, and when it has to be."""

    def watch(self, run: Run, pipe: int, now: float) -> None:
        """A run was forked; `pipe` is the one of `spawn.spawn`, and is closed here."""
        self._late[run] = now + TELL_AFTER
        if len(self._pipes) > _MANY:
            # Descriptors are few; most of these have had their exec by now.
            for other in list(self._pipes):
                self.look(other)
        self._pipes[run] = pipe
        self._poller.add(pipe, lambda: self.look(run))

    def look(self, run: Run) -> None:
        """See whether it is known by now."""
        pipe = self._pipes.get(run, -1)
        error = spawn.exec_error(pipe) if pipe >= 0 else None
        if error is not None:
            self.drop(run)
            self._known(run, error)

    def drop(self, run: Run) -> None:
        """Ask no more."""
        self._late.pop(run, None)
        pipe = self._pipes.pop(run, -1)
        if pipe >= 0:
            self._poller.remove(pipe)
            os.close(pipe)

    def take_late(self, now: float) -> list[Run]:
        """Runs whose fork has to be told, as nothing is known yet. Each comes once."""
        late = [run for run, due in self._late.items() if due <= now]
        for run in late:
            del self._late[run]
        return late

    def due(self) -> float:
        """When `take_late` has something to say."""
        return next(iter(self._late.values()), INFINITY)
