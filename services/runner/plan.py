"""The planner: which processes may run now (Thermos: planner).

One plan is one schedule, the regular or the finalizing one. Every process is in one slot:

    BLOCKED    a predecessor has not finished yet (or never will)
    RUNNABLE   all predecessors have finished; its next run has not been recorded yet
    WAITING    its next run is recorded, and held back by min_duration, max_concurrency or nothing
    RUNNING    forked
    FINISHED   succeeded for good, or an ephemeral process that has failed for good: successors may run
    FAILED     failed for good: successors never run

Who may go where stands in `Plan.ended` and nowhere else. Every operation is O(log n) at most, so a task is linear in
its processes and orders whatever their number.
"""

from __future__ import annotations

import enum
import heapq
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from services.runner.spec import ProcessSpec

# Runs of one process unless told otherwise, daemons exempt (Thermos: the runner binary's limit): a process that is
# killed over and over is not restarted for ever.
RUN_LIMIT = 100


class Slot(enum.IntEnum):
    """Where a process stands in its plan."""

    BLOCKED = 0
    RUNNABLE = 1
    WAITING = 2
    RUNNING = 3
    FINISHED = 4
    FAILED = 5


class Outcome(enum.IntEnum):
    """How a run ended. Only FAILED counts against max_failures; all count for the run limit."""

    SUCCESS = 0
    FAILED = 1
    KILLED = 2
    LOST = 3


_OVER = (Slot.FINISHED, Slot.FAILED)


class Counts(NamedTuple):
    """What a compacted journal keeps of a process in a plan."""

    slot: Slot
    failures: int
    runs: int
    ready_at: float


class _Entry:
    __slots__ = ("blockers", "failures", "index", "process", "ready_at", "runs", "slot")

    def __init__(self, index: int, process: ProcessSpec) -> None:
        self.index = index
        self.process = process
        self.slot = Slot.RUNNABLE
        self.blockers = 0
        self.failures = 0
        self.runs = 0
        self.ready_at = 0.0


class Plan:
    """Schedule of one set of processes. Times are seconds of one clock that the caller chooses."""

    def __init__(
        self,
        processes: Sequence[ProcessSpec],
        successors: Mapping[str, Iterable[str]],
        *,
        max_concurrency: int = 0,
        run_limit: int = RUN_LIMIT,
    ) -> None:
        """Nothing has run yet.

        Args:
            processes: Names are unique.
            successors: Direct ones by name, without a cycle; names that are not in `processes` are ignored.
            max_concurrency: Processes that run at the same time; 0: no limit.
            run_limit: Runs of one process until it has failed whatever they came to, daemons exempt; 0: no limit.
        """
        self._max_concurrency = max_concurrency
        self._run_limit = run_limit
        self._entries = {process.name: _Entry(index, process) for index, process in enumerate(processes)}
        self._successors = {
            name: tuple(other for other in successors.get(name, ()) if other in self._entries) for name in self._entries
        }
        for others in self._successors.values():
            for other in others:
                self._entries[other].blockers += 1
                self._entries[other].slot = Slot.BLOCKED
        # A dict as an ordered set.
        self._runnable = dict.fromkeys(name for name, entry in self._entries.items() if entry.slot is Slot.RUNNABLE)
        # (ready_at, index, name); entries whose process has moved on are dropped when they come up.
        self._throttled: list[tuple[float, int, str]] = []
        self._running = 0
        # Processes that keep the plan from being complete, and those of them that can still get somewhere.
        self._held = sum(not entry.process.ephemeral for entry in self._entries.values())
        self._moving = sum(
            not entry.process.ephemeral and entry.slot is not Slot.BLOCKED for entry in self._entries.values()
        )
        self._failed: dict[str, None] = {}
        # Processes that have let their successors run.
        self._unblocked: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    @property
    def runnable(self) -> list[str]:
        """Processes whose next run has to be recorded as WAITING, in the order of the task."""
        return self._in_order(self._runnable)

    @property
    def failed(self) -> list[str]:
        """Processes that have failed for good, in the order of the task."""
        return self._in_order(self._failed)

    @property
    def failed_count(self) -> int:
        """How many they are."""
        return len(self._failed)

    @property
    def running(self) -> int:
        """Number of processes that run."""
        return self._running

    @property
    def complete(self) -> bool:
        """All processes are over, ephemeral ones aside: they do not hold a plan."""
        return self._held == 0

    @property
    def deadlocked(self) -> bool:
        """Not complete, and it never will be: all that is left waits for a process that has failed.

        Running ephemeral processes change nothing about that, as only ephemeral ones may depend on them.
        """
        return self._held > 0 and self._moving == 0

    def slot(self, name: str) -> Slot:
        """Where a process stands."""
        return self._entries[name].slot

    def blocked(self) -> list[str]:
        """Processes that wait for a predecessor, ephemeral ones aside."""
        return [n for n, e in self._entries.items() if e.slot is Slot.BLOCKED and not e.process.ephemeral]

    def failures(self, name: str) -> int:
        """Failed runs of a process so far."""
        return self._entries[name].failures

    def runs(self, name: str) -> int:
        """Ended runs of a process so far."""
        return self._entries[name].runs

    def next_ready(self, now: float) -> str | None:
        """The process to fork next, if one may be forked now. Call again after `forked`."""
        if not self._has_room():
            return None
        self._drop_stale()
        if self._throttled and self._throttled[0][0] <= now:
            return self._throttled[0][2]
        return None

    def next_wakeup(self) -> float | None:
        """When `next_ready` has an answer without anything else happening; None: never."""
        if not self._has_room():
            return None
        self._drop_stale()
        return self._throttled[0][0] if self._throttled else None

    def waiting(self, name: str) -> None:
        """The next run of `name` is recorded."""
        entry = self._entries[name]
        self._move(entry, Slot.WAITING)
        heapq.heappush(self._throttled, (entry.ready_at, entry.index, name))

    def forked(self, name: str) -> None:
        """A run of `name` has begun."""
        self._move(self._entries[name], Slot.RUNNING)

    def ended(self, name: str, outcome: Outcome, now: float) -> None:
        """A run of `name` has ended at `now`."""
        entry = self._entries[name]
        process = entry.process
        entry.runs += 1
        entry.failures += outcome is Outcome.FAILED
        entry.ready_at = now + process.min_duration
        if outcome is Outcome.SUCCESS and not process.daemon:
            following = Slot.FINISHED
        elif self._given_up(entry, outcome):
            following = Slot.FAILED
        else:
            # BLOCKED: the hands had run it before its turn came (books rebuilt after a loss).
            following = Slot.BLOCKED if entry.blockers else Slot.RUNNABLE
        if following is Slot.FAILED and process.ephemeral:
            following = Slot.FINISHED
        self._move(entry, following)
        if following is Slot.FINISHED:
            self._unblock(name)
        elif following is Slot.FAILED:
            self._failed[name] = None

    def counts(self) -> dict[str, Counts]:
        """Everything about the plan that its specification does not say."""
        return {name: Counts(e.slot, e.failures, e.runs, e.ready_at) for name, e in self._entries.items()}

    def restore(self, counts: Mapping[str, Counts]) -> None:
        """Puts a new plan where `counts` was taken from another one of the same specification."""
        for name, (slot, failures, runs, ready_at) in counts.items():
            entry = self._entries[name]
            entry.failures, entry.runs, entry.ready_at = failures, runs, ready_at
            self._move(entry, Slot(slot))
            if slot == Slot.WAITING:
                heapq.heappush(self._throttled, (ready_at, entry.index, name))
            elif slot == Slot.FAILED:
                self._failed[name] = None
            elif slot == Slot.FINISHED:
                self._unblocked.add(name)
                for other in self._successors[name]:
                    self._entries[other].blockers -= 1

    def _in_order(self, names: Iterable[str]) -> list[str]:
        return sorted(names, key=lambda name: self._entries[name].index)

    def _has_room(self) -> bool:
        return self._max_concurrency <= 0 or self._running < self._max_concurrency

    def _drop_stale(self) -> None:
        while self._throttled:
            ready_at, _, name = self._throttled[0]
            entry = self._entries[name]
            if entry.slot is Slot.WAITING and entry.ready_at == ready_at:
                return
            heapq.heappop(self._throttled)

    def _given_up(self, entry: _Entry, outcome: Outcome) -> bool:
        process = entry.process
        if outcome is Outcome.FAILED and 0 < process.max_failures <= entry.failures:
            return True
        return 0 < self._run_limit <= entry.runs and not process.daemon

    def _unblock(self, name: str) -> None:
        if name in self._unblocked:
            return
        self._unblocked.add(name)
        for other in self._successors[name]:
            entry = self._entries[other]
            entry.blockers -= 1
            if entry.blockers == 0 and entry.slot is Slot.BLOCKED:
                self._move(entry, Slot.RUNNABLE)

    def _move(self, entry: _Entry, slot: Slot) -> None:
        """Keeps the counters in step with the slots."""
        name = entry.process.name
        before, entry.slot = entry.slot, slot
        self._running += (slot is Slot.RUNNING) - (before is Slot.RUNNING)
        if before is Slot.RUNNABLE:
            self._runnable.pop(name, None)
        if slot is Slot.RUNNABLE:
            self._runnable[name] = None
        if not entry.process.ephemeral:
            self._held += (before in _OVER) - (slot in _OVER)
            self._moving += _can_move(slot) - _can_move(before)


def _can_move(slot: Slot) -> bool:
    return slot in (Slot.RUNNABLE, Slot.WAITING, Slot.RUNNING)
