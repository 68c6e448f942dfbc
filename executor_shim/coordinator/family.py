"""The coordinator's own children and whose they are. All that lives of a task hangs below one of them."""

from __future__ import annotations

from executor_shim.coordinator.runs import Orphan, Probe, Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Owner = Run | Probe | Orphan


def attribute(
    marker: str,
    sid: int,
    markers: dict[str, Run | Probe],
    sessions: dict[int, Run | Probe],
    tasks: Iterable[str],
    bereaved: Iterable[str],
) -> tuple[str, Run | Probe | None]:
    """Whose is an orphan?

    Args:
        marker: run marker in its environment, empty when it shows none.
        sid: its session.
        markers: known markers.
        sessions: known sessions that may still exist.
        tasks: tasks that have or had processes.
        bereaved: tasks that have just lost a child.

    Returns:
        Its task (empty: a stray) and the run or probe that it comes from, if that is known.
    """
    # The marker is random and inherited, so it cannot be wrong; a session's number may be used again one day.
    origin = markers.get(marker) or sessions.get(sid)
    if origin is not None:
        return origin.task, origin
    for circle in (set(tasks), set(bereaved)):
        if len(circle) == 1:
            return circle.pop(), None
    return "", None


class Family:
    """Children of the coordinator by pid. The driver is not among them."""

    __slots__ = ("_markers", "_sessions", "children")

    def __init__(self) -> None:
        self.children: dict[int, Owner] = {}
        self._sessions: dict[int, Run | Probe] = {}
        self._markers: dict[str, Run | Probe] = {}

    def born(self, child: Run | Probe) -> None:
        """A run or probe was forked."""
        self.children[child.pid] = child
        self._sessions[child.pid] = child
        self._markers[child.marker] = child

    def died(self, pid: int) -> Owner | None:
        """A child was reaped. Returns what it was."""
        return self.children.pop(pid, None)

    def alive(self, task: str) -> int:
        """Own children of a task. 0: nothing of it is left, as every orphan would have come here."""
        return sum(child.task == task for child in self.children.values())

    def adopt(
        self,
        pid: int,
        sid: int,
        read_marker: Callable[[int], str],
        tasks: Iterable[str],
        bereaved: Iterable[str],
    ) -> Orphan:
        """Find out whose a new child is and keep it."""
        task, origin = attribute(read_marker(pid), sid, self._markers, self._sessions, tasks, bereaved)
        orphan = self.children[pid] = Orphan(pid, sid, task, origin)
        if origin is not None:
            # It may have made its own session; what it leaves behind there is of the same origin.
            self._sessions.setdefault(sid, origin)
        return orphan

    def tidy(self) -> None:
        """Forget sessions and markers that nobody can have any more: their numbers may be used again."""
        sids = {child.sid if isinstance(child, Orphan) else child.pid for child in self.children.values()}
        origins = {child.origin if isinstance(child, Orphan) else child for child in self.children.values()}
        tasks = {child.task for child in self.children.values()}
        self._sessions = {sid: owner for sid, owner in self._sessions.items() if sid in sids}
        # A run's descendants below an orphan of unknown origin may still have its marker.
        self._markers = {
            marker: owner
            for marker, owner in self._markers.items()
            if owner in origins or (isinstance(owner, Run) and owner.task in tasks)
        }

    def leaders(self, task: str) -> set[int]:
        """Sessions of a task whose leader has not been reaped: these numbers cannot mean anybody else."""
        return {pid for pid, child in self.children.items() if child.task == task and not isinstance(child, Orphan)}

    def probes(self, task: str | None = None) -> list[Probe]:
        """Running probes, of one task or of all."""
        return [
            child
            for child in self.children.values()
            if isinstance(child, Probe) and (task is None or child.task == task)
        ]
