"""The coordinator's own children and whose they are. All that lives of a task hangs below one of them."""

from __future__ import annotations

from executor_shim.coordinator import tag
from executor_shim.coordinator.runs import Orphan, Probe, Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Owner = Run | Probe | Orphan


class Evidence:
    """What an orphan has of where it comes from."""

    __slots__ = ("marker", "sid", "tag")

    def __init__(self, tag: int, marker: str, sid: int) -> None:
        self.tag = tag
        """Inherited through the kernel; 0: none."""
        self.marker = marker
        """Run marker in its environment; empty: it shows none."""
        self.sid = sid
        """Its session."""


def attribute(
    evidence: Evidence,
    tags: dict[int, Run | Probe],
    markers: dict[str, Run | Probe],
    sessions: dict[int, Run | Probe],
    tasks: Iterable[str],
) -> tuple[str, Run | Probe | None]:
    """Whose is an orphan?

    Args:
        evidence: what it has.
        tags: known tags.
        markers: known markers.
        sessions: known sessions that may still exist.
        tasks: tasks that have or had processes and are not forgotten: one between two runs has none just now.

    Returns:
        Its task (empty: a stray) and the run or probe that it comes from, if that is known.
    """
    # Tag and marker are random. An environment can be copied, a limit is only inherited; a session's number may be used
    # again one day.
    origin = tags.get(evidence.tag) or markers.get(evidence.marker) or sessions.get(evidence.sid)
    if origin is not None:
        return origin.task, origin
    return only(tasks), None


def only(tasks: Iterable[str]) -> str:
    """The one task that there is; empty when there are none or several: a guess would kill another task's process."""
    circle = set(tasks)
    return circle.pop() if len(circle) == 1 else ""


class Family:
    """Children of the coordinator by pid. The driver is not among them."""

    __slots__ = ("_held", "_markers", "_sessions", "_tags", "children")

    def __init__(self) -> None:
        self.children: dict[int, Owner] = {}
        self._held: dict[str, int] = {}
        self._sessions: dict[int, Run | Probe] = {}
        self._markers: dict[str, Run | Probe] = {}
        self._tags: dict[int, Run | Probe] = {}

    def born(self, child: Run | Probe) -> None:
        """A run or probe was forked."""
        self.children[child.pid] = child
        self._sessions[child.pid] = child
        self._markers[child.marker] = child
        self._tags[tag.of(child.marker)] = child

    def died(self, pid: int) -> Owner | None:
        """A child was reaped. Returns what it was."""
        return self.children.pop(pid, None)

    def alive(self, task: str) -> int:
        """Own children of a task. 0: nothing of it is left, as every orphan would have come here."""
        return sum(child.task == task for child in self.children.values()) + self._held.get(task, 0)

    def hold(self, task: str) -> None:
        """A child was reaped, but its end is not to be told yet: until `release` the task has one more."""
        self._held[task] = self._held.get(task, 0) + 1

    def release(self, task: str) -> None:
        """See `hold`."""
        left = self._held.pop(task) - 1
        if left:
            self._held[task] = left

    def adopt(self, pid: int, evidence: Evidence, tasks: Iterable[str]) -> Orphan:
        """Find out whose a new child is and keep it."""
        task, origin = attribute(evidence, self._tags, self._markers, self._sessions, tasks)
        orphan = self.children[pid] = Orphan(pid, evidence.sid, task, origin)
        if origin is not None:
            # It may have made its own session; what it leaves behind there is of the same origin.
            self._sessions.setdefault(evidence.sid, origin)
        return orphan

    def strays(self) -> list[Orphan]:
        """Orphans that are nobody's so far."""
        return [child for child in self.children.values() if isinstance(child, Orphan) and not child.task]

    def left_by(self, probe: Probe) -> list[Orphan]:
        """Orphans of a probe."""
        return [child for child in self.children.values() if isinstance(child, Orphan) and child.origin is probe]

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
        self._tags = {tag.of(marker): owner for marker, owner in self._markers.items()}

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
