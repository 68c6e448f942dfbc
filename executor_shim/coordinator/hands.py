"""Runs: started, watched, reaped. And the orphans that they leave behind."""

from __future__ import annotations

import os
import signal
import time

from executor_shim.coordinator import linux, spawn, tag, tree
from executor_shim.coordinator.child import Command
from executor_shim.coordinator.commands import CommandError
from executor_shim.coordinator.execs import Execs
from executor_shim.coordinator.family import Evidence, only
from executor_shim.coordinator.runs import EXITED, FORKED, NOT_STARTED, RUNNING, Orphan, Probe, Run, Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from executor_shim.coordinator.family import Family
    from executor_shim.coordinator.poller import Poller
    from executor_shim.coordinator.pumps import Pumps
    from executor_shim.coordinator.wire import Message

_MAX_PASSES = 50
"""Rounds of reaping until the loop gets its turn: a fork storm must not keep it from the clock."""

LOST = "exit status lost"
BEING_KILLED = "task is being killed"
GIVEN_UP = "given up by the runner"


class Hands:
    """All runs of all tasks."""

    def __init__(
        self,
        family: Family,
        poller: Poller,
        pumps: Pumps,
        tell: Callable[[Message], None],
        refused: Callable[[str], bool],
        in_grace: Callable[[str], bool],
        orphaned: Callable[[str, int], None],
        probe_ended: Callable[[Probe], None],
        emptied: Callable[..., None],
    ) -> None:
        """Wire up.

        Args:
            family: own children.
            poller: where pipes are watched.
            pumps: move the output of runs whose files are not simply their own.
            tell: sends an event to the driver.
            refused: whether nothing of this task may be started any more.
            in_grace: whether a task was asked to end: a shell dies of SIGTERM at once, what it started has time until
                the deadline.
            orphaned: called with task and pid when a process has lost its parent.
            probe_ended: called when a probe's main process was reaped.
            emptied: called with a task when its last own child was reaped; `told`: an event about its runs says so.
        """
        self.tasks: dict[str, Task] = {}
        self._family = family
        self._execs = Execs(poller, self._exec_known)
        self._pumps = pumps
        self._tell = tell
        self._refused = refused
        self._in_grace = in_grace
        self._orphaned = orphaned
        self._probe_ended = probe_ended
        self._emptied = emptied
        self._scattered = False
        """Orphans are not all taken in: nobody can say yet that nothing is left of a task."""
        self._ended: list[Run] = []
        self._bereaved: set[str] = set()
        self._driver_end: tuple[int, int, int] | None = None
        self.driver = 0
        """pid of the driver: a child that is nobody's orphan."""

    @property
    def unfinished(self) -> bool:
        """The last `reap` could not finish, because of an error or a storm of deaths: call it again."""
        return bool(self._scattered or self._ended or self._bereaved or self._driver_end)

    def task(self, key: str) -> Task:
        """A task's record, made when it is new."""
        task = self.tasks.get(key)
        if task is None:
            task = self.tasks[key] = Task(key)
        return task

    # -- starting

    def start(self, fields: dict[str, Any], now: float) -> None:
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
                run.pid, pipe = self._spawn(run, command)
            except OSError as error:
                run.state, run.error = NOT_STARTED, f"fork: {error.strerror}"
            else:
                # First of all: whatever goes wrong below, its exit finds it.
                self._family.born(run)
                self._execs.watch(run, pipe, now)
                return
        self._tell_run(run)

    def tick(self, now: float) -> None:
        """Tell of forks that no exec has followed."""
        for run in self._execs.take_late(now):
            self._tell_run(run)

    def due(self) -> float:
        """When `tick` has something to do."""
        return self._execs.due()

    def _spawn(self, run: Run, command: Command) -> tuple[int, int]:
        if not command.logging.pumped:
            return spawn.spawn(command)
        outputs = self._pumps.open(run, command)
        try:
            return spawn.spawn(command, outputs)
        except OSError:
            self._pumps.drop(run)
            raise
        finally:
            for fd in outputs:
                os.close(fd)

    def stop(self, key: str, process: str, number: int) -> None:
        """SIGKILL to one run that was given up. One that has not been started never will be: its record says so."""
        task = self.task(key)
        run = task.runs.get((process, number))
        if run is None:
            if number < task.floors.get(process, 0):
                return
            run = task.runs[process, number] = Run(key, process, number, "", 0.0)
            run.state, run.error = NOT_STARTED, GIVEN_UP
        elif run.pid and not run.over:
            # Ours and not reaped, so the number is still its own; a group only once it has made one.
            for kill in (os.kill, os.killpg):
                try:
                    kill(run.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
                except PermissionError as error:
                    task.complain(f"kill of process {run.pid}: {error.strerror}")
        self._tell_run(run)

    def _exec_known(self, run: Run, error: str) -> None:
        self._identify(run)
        if error:
            run.state, run.error = NOT_STARTED, error
            self._pumps.drop(run)
        else:
            run.state = RUNNING
        self._tell_run(run)

    # -- reaping

    def reap(self) -> tuple[int, int, int] | None:
        """Reap every child that has ended and take in the orphans.

        The kernel tells an exit once. So it is kept until it is told: an error on the way makes this `unfinished`.

        Returns:
            (pid, code, signal) of the driver, if it was among them.
        """
        self._scattered = True
        again = True
        passes = 0
        while again and passes < _MAX_PASSES:
            passes += 1
            while (status := _peek()) is not None:
                self._reap_one(status)
            again = self._take_in()
        self._scattered = again
        # First what others wait for.
        told = set()
        while self._ended:
            run = self._ended[0]
            self._tell_run(run)
            told.add(run.task)
            del self._ended[0]
        if not again:
            for task in list(self._bereaved):
                if task and not self._family.alive(task):
                    self._emptied(task, told=task in told)
                self._bereaved.discard(task)
            # Orphans yet to come may have the marker of what is gone.
            self._family.tidy()
        self._pumps.look_for_stopped(linux.now())
        driver, self._driver_end = self._driver_end, None
        return driver

    def _reap_one(self, status: os.waitid_result) -> None:
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
        if isinstance(child, Run):
            self._identify(child)
        os.waitid(os.P_PID, pid, os.WEXITED)
        code = status.si_status if status.si_code == os.CLD_EXITED else None
        number = None if status.si_code == os.CLD_EXITED else status.si_status
        self._family.died(pid)
        if child is None and pid == self.driver:
            self._driver_end = pid, -1 if code is None else code, number or 0
            self.driver = 0
        elif child is None:
            # If it is no pump, it is an orphan that died before it was noticed, and needs nothing more.
            self._pumps.died(pid, linux.now())
        else:
            self._bereaved.add(child.task)
        if isinstance(child, Run):
            self._end(child, code, number, core=status.si_code == os.CLD_DUMPED)
        elif isinstance(child, Probe):
            child.code, child.signal = code, number
            self._probe_ended(child)
            for orphan in self._family.left_by(child):
                self._cut_off(orphan)

    def _end(self, run: Run, code: int | None, number: int | None, *, core: bool) -> None:
        if run.state == FORKED:
            # The pipe is at its end: exec or an error comes before the exit.
            self._execs.look(run)
            self._execs.drop(run)
        if run.state == NOT_STARTED:
            return
        run.state = EXITED
        run.code, run.signal, run.core = code, number, core
        run.exited_at = time.time()
        if code is None and number is None:
            run.error = LOST
        self._ended.append(run)
        if self._pumps.flush(run, linux.now()):
            # Whoever hears of an exit will look for the reason in the log.
            self._family.hold(run.task)
            self._ended.remove(run)

    def flushed(self, run: Run) -> None:
        """The last output of a run that has ended is written."""
        self._family.release(run.task)
        self._tell_run(run)
        if self._scattered:
            self._bereaved.add(run.task)
        elif not self._family.alive(run.task):
            self._emptied(run.task, told=True)

    def _take_in(self) -> bool:
        """Adopt new children. Returns True when one of them has died since: its own orphans came after the look."""
        own = set(tree.own_children())
        if self.driver and self.driver not in own and _vanished(self.driver):
            self._driver_end, self.driver = (self.driver, -1, 0), 0
        now = own - self.helpers()
        died = False
        for pid in now:
            if pid in self._family.children:
                continue
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                died = True
                continue
            evidence = Evidence(tag.read(pid), tree.marker_of(pid), os.getsid(pid))
            orphan = self._family.adopt(pid, evidence, self.tasks)
            self._cut_off(orphan)
            self._orphaned(orphan.task, pid)
        if len(now) < len(self._family.children):
            self._find_lost(now)
        return died

    def helpers(self) -> set[int]:
        """Children that belong to no task: the driver and the log pumps."""
        return {self.driver} | self._pumps.pids

    def _cut_off(self, orphan: Orphan) -> None:
        # A probe that was answered leaves nothing behind.
        if isinstance(orphan.origin, Probe) and orphan.origin.over:
            try:
                os.kill(orphan.pid, signal.SIGKILL)
            except OSError as error:
                self.task(orphan.task).complain(f"kill of process {orphan.pid}: {error.strerror}")

    def _find_lost(self, now: set[int]) -> None:
        """Children that vanished without a status: somebody else reaped them. Never to be taken for a success."""
        for pid in filter(_vanished, set(self._family.children) - now):
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
        """Drop all records of a task; strays then go to the last that lives. Raises CommandError if it has some."""
        alive = self._family.alive(key)
        if alive:
            raise CommandError(f"forget.task: {alive} of its processes are alive")
        self.tasks.pop(key, None)
        last = only(self.tasks)
        # One that has nothing alive may be over, and told of.
        for orphan in self._family.strays() if last and self._family.alive(last) else ():
            orphan.task = last
            self._orphaned(last, orphan.pid)

    def wire(self, run: Run) -> dict[str, Any]:
        """A run as the driver is told."""
        self._identify(run)
        return run.to_wire()

    def _identify(self, run: Run) -> None:
        """Find out when the process of a run was started; until it is reaped it can be asked."""
        if run.pid and not run.ticks and not run.over:
            proc = tree.read(run.pid)
            run.ticks = proc.ticks if proc is not None else 0

    def _tell_run(self, run: Run) -> None:
        # As long as orphans are not all taken in, "nothing is left" cannot be said.
        alive = self._family.alive(run.task) or int(self._scattered and run.task in self._bereaved)
        self._tell({"ev": "run", "task": run.task, "alive": alive, "run": self.wire(run)})


def _peek() -> os.waitid_result | None:
    """A child that has ended, still unreaped; None when there is none."""
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None


def _vanished(pid: int) -> bool:
    """What was a child is none any more: somebody else has got its status."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False
