"""Runs: started, given up, recorded."""

from __future__ import annotations

import os
import signal
import time

from executor_shim.coordinator import spawn, tree
from executor_shim.coordinator.child import Command
from executor_shim.coordinator.commands import CommandError
from executor_shim.coordinator.execs import Execs
from executor_shim.coordinator.family import only
from executor_shim.coordinator.runs import EXITED, FORKED, NOT_STARTED, RUNNING, Run, Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from executor_shim.coordinator.family import Family
    from executor_shim.coordinator.poller import Poller
    from executor_shim.coordinator.pumps import Pumps
    from executor_shim.coordinator.wire import Message

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
        orphaned: Callable[[str, int], None],
    ) -> None:
        """Wire up.

        Args:
            family: own children.
            poller: where pipes are watched.
            pumps: move the output of runs whose files are not simply their own.
            tell: sends an event to the driver.
            refused: whether nothing of this task may be started any more.
            orphaned: called with task and pid when a process has got another task.
        """
        self.tasks: dict[str, Task] = {}
        self._family = family
        self._execs = Execs(poller, self._exec_known)
        self._pumps = pumps
        self._tell = tell
        self._refused = refused
        self._orphaned = orphaned
        self.uncertain: Callable[[str], bool] = lambda _task: False
        """Whether nobody can say yet that nothing is left of a task; the reaper knows."""

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
            self.tell_run(known)
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
        self.tell_run(run)

    def tick(self, now: float) -> None:
        """Tell of forks that no exec has followed."""
        for run in self._execs.take_late(now):
            self.tell_run(run)

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
        self.tell_run(run)

    def _exec_known(self, run: Run, error: str) -> None:
        self.identify(run)
        if error:
            run.state, run.error = NOT_STARTED, error
            self._pumps.drop(run)
        else:
            run.state = RUNNING
        self.tell_run(run)

    # -- records

    def ended(self, run: Run, code: int | None, number: int | None, *, core: bool) -> bool:
        """Write down how a run ended; neither code nor signal: nobody knows. False: it never was one."""
        if run.state == FORKED:
            # The pipe is at its end: exec or an error comes before the exit.
            self._execs.look(run)
            self._execs.drop(run)
        if run.state == NOT_STARTED:
            return False
        run.state = EXITED
        run.code, run.signal, run.core = code, number, core
        run.exited_at = time.time()
        if code is None and number is None:
            run.error = LOST
        return True

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
        self.identify(run)
        return run.to_wire()

    def identify(self, run: Run) -> None:
        """Find out when the process of a run was started; until it is reaped it can be asked."""
        if run.pid and not run.ticks and not run.over:
            proc = tree.read(run.pid)
            run.ticks = proc.ticks if proc is not None else 0

    def tell_run(self, run: Run) -> None:
        """Tell the driver of a run as it is now."""
        alive = self._family.alive(run.task) or int(self.uncertain(run.task))
        self._tell({"ev": "run", "task": run.task, "alive": alive, "run": self.wire(run)})
