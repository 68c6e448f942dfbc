"""Children that have ended are reaped, orphans are taken in, and what that means is told."""

from __future__ import annotations

import os
import signal

from executor_shim.coordinator import linux, tag, tree
from executor_shim.coordinator.family import Evidence
from executor_shim.coordinator.hands import LOST
from executor_shim.coordinator.runs import Orphan, Probe, Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from executor_shim.coordinator.family import Family
    from executor_shim.coordinator.hands import Hands
    from executor_shim.coordinator.pumps import Pumps

_MAX_PASSES = 50
"""Rounds of reaping until the loop gets its turn: a fork storm must not keep it from the clock."""


class Reaper:
    """All ends of own children."""

    def __init__(
        self,
        hands: Hands,
        family: Family,
        pumps: Pumps,
        in_grace: Callable[[str], bool],
        orphaned: Callable[[str, int], None],
        probe_ended: Callable[[Probe], None],
        emptied: Callable[..., None],
    ) -> None:
        """Wire up.

        Args:
            hands: the runs, whose ends are recorded and told there.
            family: own children.
            pumps: move the output of runs whose files are not simply their own.
            in_grace: whether a task was asked to end: a shell dies of SIGTERM at once, what it started has time until
                the deadline.
            orphaned: called with task and pid when a process has lost its parent.
            probe_ended: called when a probe's main process was reaped.
            emptied: called with a task when its last own child was reaped; `told`: an event about its runs says so.
        """
        self._hands = hands
        self._family = family
        self._pumps = pumps
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
        hands.uncertain = lambda task: self._scattered and task in self._bereaved

    @property
    def unfinished(self) -> bool:
        """The last `reap` could not finish, because of an error or a storm of deaths: call it again."""
        return bool(self._scattered or self._ended or self._bereaved or self._driver_end)

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
            self._hands.tell_run(run)
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
                self._hands.task(child.task).complain(f"kill of the group of process {pid}: {error.strerror}")
        if isinstance(child, Run):
            self._hands.identify(child)
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
        if not self._hands.ended(run, code, number, core=core):
            return
        self._ended.append(run)
        if self._pumps.flush(run, linux.now()):
            # Whoever hears of an exit will look for the reason in the log.
            self._family.hold(run.task)
            self._ended.remove(run)

    def flushed(self, run: Run) -> None:
        """The last output of a run that has ended is written."""
        self._family.release(run.task)
        self._hands.tell_run(run)
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
            orphan = self._family.adopt(pid, evidence, self._hands.tasks)
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
                self._hands.task(orphan.task).complain(f"kill of process {orphan.pid}: {error.strerror}")

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
