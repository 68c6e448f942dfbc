"""From snapshots to what tasks use. Pure: a snapshot with owners and a time in, sums out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from executor_shim.driver.usage.owners import Owner
    from executor_shim.driver.usage.stats import Stat


@dataclass(slots=True)
class Sum:
    """What one run, or one task, uses."""

    cpu: float = 0.0
    # Cores; None in the first sample.
    cpus: float | None = None
    rss: int = 0
    threads: int = 0
    processes: int = 0

    def add(self, stat: Stat) -> None:
        """One more process. Of one that has ended but is not reaped only the time counts."""
        self.cpu += stat.cpu
        if stat.lives:
            self.rss += stat.rss
            self.threads += stat.threads
            self.processes += 1


class Account:
    """Times of all runs, over all samples.

    A process's time moves to its parent's when that waits for it. The times of the coordinator's own children are in
    nobody's afterwards, so they are kept here. What is lost nevertheless (a parent that ignores SIGCHLD) never makes a
    run's time shrink.
    """

    def __init__(self, coordinator: int) -> None:
        """`coordinator`: its pid."""
        self._coordinator = coordinator
        self._before: dict[tuple[int, int], tuple[Owner, float, bool]] = {}
        self._gone: dict[Owner, float] = {}
        self._cpu: dict[Owner, float] = {}
        self._at = 0.0

    def take(self, procs: Mapping[int, Stat], owned: Mapping[int, Owner], now: float) -> dict[Owner, Sum]:
        """The sums of every run that has ever been seen; `now` on a clock that does not jump, seconds."""
        sums = {owner: Sum() for owner in self._cpu}
        present: dict[tuple[int, int], tuple[Owner, float, bool]] = {}
        for pid, owner in owned.items():
            stat = procs[pid]
            sums.setdefault(owner, Sum()).add(stat)
            present[stat.pid, stat.ticks] = owner, stat.cpu, stat.ppid == self._coordinator
        for process, (owner, cpu, own_child) in self._before.items():
            if own_child and process not in present:
                self._gone[owner] = self._gone.get(owner, 0.0) + cpu
        for owner, each in sums.items():
            self._settle(owner, each, now)
        self._before = present
        self._at = now
        return sums

    def forget(self, task: str) -> None:
        """The task is over."""
        for table in (self._gone, self._cpu):
            for owner in [owner for owner in table if owner.task == task]:
                del table[owner]
        self._before = {process: entry for process, entry in self._before.items() if entry[0].task != task}

    def _settle(self, owner: Owner, each: Sum, now: float) -> None:
        each.cpu += self._gone.get(owner, 0.0)
        before = self._cpu.get(owner)
        if before is not None and each.cpu < before:
            self._gone[owner] = self._gone.get(owner, 0.0) + before - each.cpu
            each.cpu = before
        if before is not None and now > self._at:
            each.cpus = (each.cpu - before) / (now - self._at)
        self._cpu[owner] = each.cpu


def total(sums: list[Sum]) -> Sum:
    """Of a task: all its runs."""
    rates = [each.cpus for each in sums if each.cpus is not None]
    return Sum(
        cpu=sum(each.cpu for each in sums),
        cpus=sum(rates) if rates else None,
        rss=sum(each.rss for each in sums),
        threads=sum(each.threads for each in sums),
        processes=sum(each.processes for each in sums),
    )
