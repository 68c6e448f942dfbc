"""Carries out what `kills` and `deadlines` decide: finds the processes of a task and signals them."""

from __future__ import annotations

import os
import signal

from executor_shim.coordinator import tree
from executor_shim.coordinator.deadlines import ALL, Deadlines
from executor_shim.coordinator.kills import GONE, KILL, STUCK, TERM, Kills

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from executor_shim.coordinator.family import Family
    from executor_shim.coordinator.hands import Hands
    from executor_shim.coordinator.reaper import Reaper
    from executor_shim.coordinator.wire import Message

STRAYS = ""
"""Key under which processes of no known task are killed."""


class Slayer:
    """Ends tasks, politely or not."""

    def __init__(self, family: Family, tell: Callable[[Message], None]) -> None:
        """Wire up; `hands` and `reaper` must be set before use."""
        self.hands: Hands
        self.reaper: Reaper
        self._family = family
        self._tell = tell
        self._kills = Kills()
        self._deadlines = Deadlines()
        self.closed = False
        """Nothing may be started any more."""

    def refuses(self, task: str, now: float) -> bool:
        """A process that is started now would be killed at once."""
        return self.closed or self._kills.killing(task) or self._deadlines.passed(task, now)

    def in_grace(self, task: str) -> bool:
        """The task has been asked to end and still has time."""
        return self._kills.in_grace(task)

    def limit(self, task: str) -> float | None:
        """The hard deadline in force for a task (`ALL`: for every task)."""
        return self._deadlines.limit(task)

    def terminate(self, task: str, kill_at: float, now: float) -> None:
        """SIGTERM now, SIGKILL at `kill_at`, an event when nothing is left."""
        self._kills.terminate(task, kill_at, now)

    def make_way(self, task: str, now: float) -> None:
        """Something of the task is about to start. An order to end what was there before must not meet it.

        Nor may the SIGKILL of an order whose time was up when it was read: whether a start is refused would depend on
        how fast we are.
        """
        if task not in self._kills:
            return
        if self._kills.killing(task):
            if self._family.alive(task):
                return
            self._kills.poke(task, now)
        self.tick(now)
        if self._kills.in_grace(task) and not self._family.alive(task):
            self._kills.make_way(task)
            self._report(task)

    def hard(self, task: str, at: float) -> None:
        """SIGKILL at `at` at the latest, and no start after it."""
        if task != ALL:
            self.hands.task(task)
        self._deadlines.set(task, at)

    def terminate_all(self, kill_at: float, now: float) -> None:
        """SIGTERM to everything, SIGKILL at `kill_at`."""
        self._deadlines.set(ALL, kill_at)
        for task in self._inhabited():
            self._kills.terminate(task, kill_at, now)

    def kill_all(self, now: float) -> None:
        """SIGKILL to everything, and no start any more."""
        self.closed = True
        for task in self._inhabited():
            self._kills.kill(task, now)

    def kill_strays(self, now: float) -> None:
        """SIGKILL to what is nobody's: no task is left that it could belong to."""
        if self._family.strays():
            self._kills.kill(STRAYS, now)

    def _inhabited(self) -> set[str]:
        return {child.task for child in self._family.children.values()} | {STRAYS}

    def forget(self, task: str) -> None:
        """Drop a task's limit."""
        self._deadlines.forget(task)

    def emptied(self, task: str, now: float, *, told: bool) -> None:
        """The last own child of a task was reaped. `told`: an event about its runs has said so just now."""
        if task in self._kills:
            self._kills.poke(task, now)
        else:
            self._report(task, told=told)

    @property
    def idle(self) -> bool:
        """Nothing is being ended."""
        return not self._kills

    def tick(self, now: float) -> None:
        """Do what is due."""
        for task in self._deadlines.expire(now):
            for each in self._inhabited() if task == ALL else (task,):
                self._kills.kill(each, now)
        while due := self._kills.take_due(now):
            self.reaper.look_for_orphans()
            procs = tree.snapshot()
            for task, action in due:
                self._carry_out(task, action, procs, now)

    def _carry_out(self, key: str, action: str, procs: dict[int, tree.Proc], now: float) -> None:
        task = self.hands.tasks.get(key)
        found = self._members(key, procs)
        fresh = False
        if action == KILL:
            killed = task.killed if task is not None else set()
            fresh = any((proc.pid, proc.ticks) not in killed for proc in found)
            self._signal(key, found, signal.SIGKILL)
            killed.update((proc.pid, proc.ticks) for proc in found)
        elif action == TERM:
            self._ask(key, found, procs)
        outcome = self._kills.looked(key, len(found), self._family.alive(key), now, fresh=fresh)
        if outcome == STUCK:
            if task is not None:
                task.stuck = True
            self._report(key)
        elif outcome == GONE:
            self._report(key)

    def _members(self, key: str, procs: dict[int, tree.Proc]) -> list[tree.Proc]:
        task = self.hands.tasks.get(key)
        children = self._family.children
        markers = task.markers() if task is not None else set()
        markers.update(probe.marker for probe in self._family.probes(key))
        return tree.members(
            procs,
            os.getpid(),
            owned=lambda top: top in children and children[top].task == key,
            excluded=self.reaper.helpers(),
            pinned_sids=self._family.leaders(key),
            markers=markers,
            foreign=task.foreign if task is not None else {},
        )

    def orphaned(self, key: str, pid: int) -> None:
        """A process has lost its parent. While the task is being ended it is asked to end, if it has not been yet.

        What a process forks after SIGTERM is how it obeys, and is left to it until the parent is gone.
        """
        proc = tree.read(pid) if self._kills.in_grace(key) else None
        if proc is not None:
            self._ask(key, [proc], {})

    def _ask(self, key: str, found: list[tree.Proc], procs: dict[int, tree.Proc]) -> None:
        """SIGTERM to everything that has not had it, and that no parent who has had it is responsible for."""
        task = self.hands.tasks.get(key)
        asked = task.asked if task is not None else set()
        victims = [proc for proc in found if not tree.below(proc, procs, asked)]
        self._signal(key, victims, signal.SIGTERM)
        # A stopped process does not see SIGTERM before it goes on.
        self._signal(key, victims, signal.SIGCONT)
        asked.update((proc.pid, proc.ticks) for proc in victims)

    def _signal(self, key: str, procs: list[tree.Proc], number: int) -> None:
        task = self.hands.tasks.get(key)
        for proc in procs:
            error = tree.send(proc, number)
            if task is not None:
                task.complain(error)

    def _report(self, key: str, *, told: bool = False) -> None:
        if key == STRAYS:
            return
        task = self.hands.tasks.get(key)
        alive = self._family.alive(key)
        event: Message = {
            "ev": "task",
            "task": key,
            "alive": alive,
            "stuck": task is not None and task.stuck and alive > 0,
            "told": told,
        }
        if task is not None and task.errors:
            event["error"] = "; ".join(task.errors)
        if task is not None and not alive:
            task.rest()
            event["stuck"] = False
        self._tell(event)

    def due(self) -> float:
        """When `tick` has something to do."""
        return min(self._kills.due(), self._deadlines.due())
