"""Runs: started, watched, reaped. And the orphans that they leave behind."""

from __future__ import annotations

import os
import signal
import time

from executor_shim.coordinator import spawn, tree
from executor_shim.coordinator.child import Command
from executor_shim.coordinator.commands import CommandError
from executor_shim.coordinator.runs import EXITED, FORKED, NOT_STARTED, RUNNING, Orphan, Probe, Run, Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from executor_shim.coordinator.family import Family
    from executor_shim.coordinator.poller import Poller
    from executor_shim.coordinator.wire import Message

_MAX_PASSES = 50
"""Rounds of reaping until the loop gets its turn: a fork storm must not keep it from the clock."""

_MANY_PIPES = 128

LOST = "exit status lost"
BEING_KILLED = "task is being killed"


class Hands:
    """All runs of all tasks."""

    def __init__(
        self,
        family: Family,
        poller: Poller,
        tell: Callable[[Message], None],
        refused: Callable[[str], bool],
        in_grace: Callable[[str], bool],
        orphaned: Callable[[str, int], None],
        probe_ended: Callable[[Probe], None],
        emptied: Callable[[str], None],
    ) -> None:
        """Wire up.

        Args:
            family: own children.
            poller: where pipes are watched.
            tell: sends an event to the driver.
            refused: whether nothing of this task may be started any more.
            in_grace: whether a task was asked to end: a shell dies of SIGTERM at once, what it started has time until
                the deadline.
            orphaned: called with task and pid when a process has lost its parent.
            probe_ended: called when a probe's main process was reaped.
            emptied: called when the last own child of a task was reaped.
        """
        self.tasks: dict[str, Task] = {}
        self._family = family
        self._poller = poller
        self._tell = tell
        self._refused = refused
        self._in_grace = in_grace
        self._orphaned = orphaned
        self._probe_ended = probe_ended
        self._emptied = emptied
        self._pipes: dict[Run, int] = {}
        self._ended: list[Run] = []
        self._bereaved: set[str] = set()
        self.unfinished = False
        """The last `reap` could not finish, because of an error or a storm of deaths: call it again."""
        self.driver = 0
        """pid of the driver: a child that is nobody's orphan."""

    def task(self, key: str) -> Task:
        """A task's record, made when it is new."""
        task = self.tasks.get(key)
        if task is None:
            task = self.tasks[key] = Task(key)
        return task

    # -- starting

    def start(self, fields: dict[str, Any]) -> None:
        """Start a run; one that is known already is told of again instead."""
        task = self.task(fields.pop("task"))
        key = fields.pop("process"), fields.pop("run")
        known = task.runs.get(key)
        if known is not None:
            self._tell_run(known)
            return
        if key[1] < task.floors.get(key[0], 0):
            raise CommandError(f"start.run: run {key[1]} of process {key[0]!r} is settled")
        command = Command(**fields)
        run = task.runs[key] = Run(task.key, *key, command.marker, time.time())
        if self._refused(task.key):
            run.state, run.error = NOT_STARTED, BEING_KILLED
        else:
            try:
                run.pid, pipe = spawn.spawn(command)
            except OSError as error:
                run.state, run.error = NOT_STARTED, f"fork: {error.strerror}"
            else:
                if len(self._pipes) > _MANY_PIPES:
                    # Descriptors are few; most of these have had their exec by now.
                    for other in list(self._pipes):
                        self._exec_known(other)
                proc = tree.read(run.pid)
                run.ticks = proc.ticks if proc is not None else 0
                self._family.born(run)
                self._pipes[run] = pipe
                self._poller.add(pipe, lambda: self._exec_known(run))
        self._tell_run(run)

    def _exec_known(self, run: Run) -> None:
        error = spawn.exec_error(self._pipes[run])
        if error is None:
            return
        self._close_pipe(run)
        if error:
            run.state, run.error = NOT_STARTED, error
        else:
            run.state = RUNNING
        self._tell_run(run)

    def _close_pipe(self, run: Run) -> None:
        pipe = self._pipes.pop(run, -1)
        if pipe >= 0:
            self._poller.remove(pipe)
            os.close(pipe)

    # -- reaping

    def reap(self) -> tuple[int, int, int] | None:
        """Reap every child that has ended and take in the orphans.

        Returns:
            (pid, code, signal) of the driver, if it was among them.
        """
        driver = None
        self.unfinished = True
        again = True
        passes = 0
        while again and passes < _MAX_PASSES:
            passes += 1
            while (status := _peek()) is not None:
                driver = self._reap_one(status) or driver
            again = self._take_in()
        self.unfinished = again
        self._family.tidy()
        while self._ended:
            self._tell_run(self._ended.pop(0))
        if not self.unfinished:
            bereaved, self._bereaved = self._bereaved, set()
            for task in bereaved:
                if task and not self._family.alive(task):
                    self._emptied(task)
        return driver

    def _reap_one(self, status: os.waitid_result) -> tuple[int, int, int] | None:
        pid = status.si_pid
        child = self._family.children.get(pid)
        if isinstance(child, Probe) or (isinstance(child, Run) and not self._in_grace(child.task)):
            try:
                # The zombie still holds the number of its group: what is left in it goes with its leader.
                os.killpg(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            except PermissionError as error:
                self.task(child.task).complain(f"kill of the group of process {pid}: {error.strerror}")
        os.waitid(os.P_PID, pid, os.WEXITED)
        code = status.si_status if status.si_code == os.CLD_EXITED else None
        number = None if status.si_code == os.CLD_EXITED else status.si_status
        self._family.died(pid)
        if child is None:
            # An orphan that died before it was noticed needs nothing more.
            return (pid, -1 if code is None else code, number or 0) if pid == self.driver else None
        self._bereaved.add(child.task)
        if isinstance(child, Run):
            self._end(child, code, number, core=status.si_code == os.CLD_DUMPED)
        elif isinstance(child, Probe):
            child.code, child.signal = code, number
            self._probe_ended(child)
        return None

    def _end(self, run: Run, code: int | None, number: int | None, *, core: bool) -> None:
        if run.state == FORKED:
            # The pipe is at its end: exec or an error comes before the exit.
            self._exec_known(run)
            self._close_pipe(run)
        if run.state == NOT_STARTED:
            return
        run.state = EXITED
        run.code, run.signal, run.core = code, number, core
        run.exited_at = time.time()
        if code is None and number is None:
            run.error = LOST
        self._ended.append(run)

    def _take_in(self) -> bool:
        """Adopt new children. Returns True when one of them has died since: its own orphans came after the look."""
        now = tree.own_children()
        died = False
        for pid in now:
            if pid in self._family.children or pid == self.driver:
                continue
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                died = True
                continue
            orphan = self._family.adopt(pid, os.getsid(pid), tree.marker_of, self.tasks, self._bereaved)
            self._cut_off(orphan)
            self._orphaned(orphan.task, pid)
        if len(now) < len(self._family.children):
            self._find_lost(set(now))
        return died

    def _cut_off(self, orphan: Orphan) -> None:
        # A probe that was answered leaves nothing behind.
        if isinstance(orphan.origin, Probe) and orphan.origin.over:
            try:
                os.kill(orphan.pid, signal.SIGKILL)
            except OSError as error:
                self.task(orphan.task).complain(f"kill of process {orphan.pid}: {error.strerror}")

    def _find_lost(self, now: set[int]) -> None:
        """Children that vanished without a status: somebody else reaped them. Never to be taken for a success."""
        for pid in set(self._family.children) - now:
            try:
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                child = self._family.died(pid)
                if child is not None:
                    self._bereaved.add(child.task)
                if isinstance(child, Run):
                    self._end(child, None, None, core=False)
                elif isinstance(child, Probe):
                    child.error = LOST
                    self._probe_ended(child)

    def look_for_orphans(self) -> None:
        """Adopt what has come since: before a look at the whole tree."""
        self._take_in()

    # -- records

    def settle(self, key: str, process: str, below: int) -> None:
        """Drop records of old runs of a process: nobody will ask for them again."""
        task = self.tasks.get(key)
        if task is None:
            return
        for name, number in list(task.runs):
            if name == process and number < below and task.runs[name, number].over:
                del task.runs[name, number]
        task.floors[process] = max(below, task.floors.get(process, 0))

    def forget(self, key: str) -> None:
        """Drop all records of a task. Raises CommandError when something of it is alive."""
        alive = self._family.alive(key)
        if alive:
            raise CommandError(f"forget.task: {alive} of its processes are alive")
        self.tasks.pop(key, None)

    def _tell_run(self, run: Run) -> None:
        # As long as orphans are not all taken in, "nothing is left" cannot be said.
        alive = self._family.alive(run.task) or int(self.unfinished and run.task in self._bereaved)
        self._tell({"ev": "run", "task": run.task, "alive": alive, "run": run.to_wire()})


def _peek() -> os.waitid_result | None:
    """A child that has ended, still unreaped; None when there is none."""
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
