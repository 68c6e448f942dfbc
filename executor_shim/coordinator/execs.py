"""What has become of forked children: the pipes that exec closes, or on which they say why not."""

from __future__ import annotations

import os

from executor_shim.coordinator import spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from executor_shim.coordinator.poller import Poller
    from executor_shim.coordinator.runs import Run

_MANY = 128


class Execs:
    """Runs between fork and exec."""

    __slots__ = ("_known", "_pipes", "_poller")

    def __init__(self, poller: Poller, known: Callable[[Run, str], None]) -> None:
        """Wire up.

        Args:
            poller: where pipes are watched.
            known: called once for each run: with an empty text when exec has happened, else with the error.
        """
        self._poller = poller
        self._known = known
        self._pipes: dict[Run, int] = {}

    def watch(self, run: Run, pipe: int) -> None:
        """A run was forked; `pipe` is the one of `spawn.spawn`, and is closed here."""
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
        pipe = self._pipes.pop(run, -1)
        if pipe >= 0:
            self._poller.remove(pipe)
            os.close(pipe)
