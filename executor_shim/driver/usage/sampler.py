"""Samples what the runner wants to know of tasks, as often as it wants it, and nothing else."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from executor_shim.coordinator import tag, tree
from executor_shim.coordinator.family import only
from executor_shim.driver.aside import aside
from executor_shim.driver.usage.account import Account, Sum, total
from executor_shim.driver.usage.disk import Walk, Walked
from executor_shim.driver.usage.owners import KnownRun, Owner, owners
from executor_shim.driver.usage.stats import Stat, snapshot
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from executor_shim.driver.hands import HandsTask
    from trivet.link.v1 import link_pb2

_LOG = logging.getLogger(__name__)
T = TypeVar("T")
# Whatever the runner asks for.
MIN_SECS = 0.5
# The thread that walks ends at the latest so long after nobody wants it any more.
_MAX_REST = 0.2
# Of so many processes it is remembered what they have of where they come from.
_MAX_REMEMBERED = 10_000


@dataclass(slots=True)
class _Wish:
    """What is wanted of one task."""

    key: link_pb2.TaskKey
    process_secs: float
    disk_secs: float
    # CLOCK_MONOTONIC of the next samples.
    process_due: float
    disk_due: float
    usage: runner_pb2.TaskUsage = field(default_factory=runner_pb2.TaskUsage)


class Sampler:
    """All sampling of one driver."""

    def __init__(self, sandbox: str, tasks: Mapping[str, HandsTask], send: Callable[[runner_pb2.Usage], None]) -> None:
        """`tasks`: the coordinator's, by their keys; read at every sample."""
        self._sandbox = sandbox
        self._tasks = tasks
        self._send = send
        self._wishes: dict[str, _Wish] = {}
        self._directory = self._logs = ""
        self._coordinator = os.getppid()
        self._account = Account(self._coordinator)
        self._markers: dict[tuple[int, int], str] = {}
        self._tags: dict[tuple[int, int], int] = {}
        # One for each of the rounds.
        self._changed = (asyncio.Event(), asyncio.Event())
        self._rounds: list[asyncio.Task[None]] = []
        # Ends the walk that is under way.
        self._stop = threading.Event()

    def order(self, task: str, sampling: runner_pb2.Sampling) -> None:
        """From now on this, and nothing that was ordered before."""
        process_secs, disk_secs = (
            max(secs, MIN_SECS) if secs > 0 else 0.0 for secs in (sampling.process_secs, sampling.disk_secs)
        )
        if not process_secs and not disk_secs:
            self.forget(task)
            return
        now = time.monotonic()
        wish = self._wishes.setdefault(task, _Wish(sampling.key, 0.0, 0.0, now, now))
        # A shorter pause holds at once, a new wish begins at once.
        wish.process_due = min(wish.process_due, now + process_secs) if wish.process_secs else now
        wish.disk_due = min(wish.disk_due, now + disk_secs) if wish.disk_secs else now
        wish.process_secs, wish.disk_secs = process_secs, disk_secs
        self._directory, self._logs = sampling.directory, sampling.logs
        for changed in self._changed:
            changed.set()
        if not self._rounds:
            self._rounds = [asyncio.ensure_future(self._sample()), asyncio.ensure_future(self._walk())]
            for work in self._rounds:
                work.add_done_callback(_complain)

    def forget(self, task: str) -> None:
        """Nobody wants to know any more."""
        self._wishes.pop(task, None)
        self._account.forget(task)
        if not any(wish.disk_secs for wish in self._wishes.values()):
            self._stop.set()
        if not self._wishes:
            for work in self._rounds:
                work.cancel()
            self._rounds = []

    def forget_all(self) -> None:
        """The stream is gone, and with it whoever wanted to know."""
        for task in list(self._wishes):
            self.forget(task)

    # Processes

    async def _sample(self) -> None:
        while True:
            dues = [wish.process_due for wish in self._wishes.values() if wish.process_secs]
            await _pause(self._changed[0], min(dues, default=None))
            now = time.monotonic()
            due = {task: wish for task, wish in self._wishes.items() if wish.process_secs and wish.process_due <= now}
            if not due:
                continue
            runs = [run for task in self._wishes for run in _known_runs(task, self._tasks.get(task))]
            procs, owned = await aside(self._look, runs, only(self._tasks))
            sums = self._account.take(procs, owned, time.monotonic())
            for task, wish in due.items():
                if self._wishes.get(task) is wish:
                    wish.process_due = now + wish.process_secs
                    _fill(wish.usage, task, sums)
                    self._tell(wish)

    def _look(self, runs: list[KnownRun], only_task: str) -> tuple[dict[int, Stat], dict[int, Owner]]:
        procs = snapshot()
        return procs, owners(
            procs,
            self._coordinator,
            runs,
            lambda pid: _remembered(self._markers, procs[pid], tree.marker_of),
            lambda pid: _remembered(self._tags, procs[pid], tag.read),
            driver=os.getpid(),
            only=only_task,
        )

    # The sandbox

    async def _walk(self) -> None:
        while True:
            dues = [wish.disk_due for wish in self._wishes.values() if wish.disk_secs]
            await _pause(self._changed[1], min(dues, default=None))
            now = time.monotonic()
            due = {task: wish for task, wish in self._wishes.items() if wish.disk_secs and wish.disk_due <= now}
            if not due:
                continue
            stop = self._stop = threading.Event()
            walked = await aside(_walk_once, os.path.join(self._sandbox, self._directory), self._logs, stop)
            if stop.is_set():
                continue
            now = time.monotonic()
            for task, wish in due.items():
                if self._wishes.get(task) is wish:
                    wish.disk_due = now + wish.disk_secs
                    if walked is not None:
                        wish.usage.disk.CopyFrom(_disk(walked))
                        self._tell(wish)

    def _tell(self, wish: _Wish) -> None:
        self._send(runner_pb2.Usage(key=wish.key, usage=wish.usage))


def _remembered(memory: dict[tuple[int, int], T], stat: Stat, read: Callable[[int], T]) -> T:
    key = stat.pid, stat.ticks
    if key not in memory:
        if len(memory) >= _MAX_REMEMBERED:
            memory.clear()
        memory[key] = read(stat.pid)
    return memory[key]


async def _pause(changed: asyncio.Event, until: float | None) -> None:
    """Until then (CLOCK_MONOTONIC; None: for ever), or until the wishes change."""
    try:
        async with asyncio.timeout(None if until is None else max(until - time.monotonic(), 0.0)):
            await changed.wait()
    except TimeoutError:
        return
    changed.clear()


def _walk_once(top: str, logs: str, stop: threading.Event) -> Walked | None:
    try:
        return Walk(top, logs, lambda secs: stop.wait(min(secs, _MAX_REST))).run()
    except FileNotFoundError:
        # It is made with the first start.
        return Walked()
    except OSError as error:
        _LOG.warning("%s cannot be walked: %s", top, error.strerror)
        return None


def _known_runs(task: str, known: HandsTask | None) -> list[KnownRun]:
    runs = known.runs.values() if known is not None else ()
    return [
        KnownRun(Owner(task, run["process"], run["run"]), run["pid"], run["ticks"], run.get("marker") or "")
        for run in runs
        if run["pid"]
    ]


def _fill(usage: runner_pb2.TaskUsage, task: str, sums: Mapping[Owner, Sum]) -> None:
    usage.at = time.time()
    mine = {owner: each for owner, each in sums.items() if owner.task == task}
    usage.total.CopyFrom(_consumption(total(list(mine.values()))))
    del usage.processes[:]
    for owner, each in sorted(mine.items()):
        # What belongs to no run is in the total alone.
        if each.processes and owner.process:
            usage.processes.add(process=owner.process, run=owner.run, use=_consumption(each))


def _consumption(each: Sum) -> runner_pb2.Consumption:
    return runner_pb2.Consumption(
        cpu_secs=each.cpu, cpus=each.cpus, rss_bytes=each.rss, threads=each.threads, processes=each.processes
    )


def _disk(walked: Walked) -> runner_pb2.DiskUsage:
    return runner_pb2.DiskUsage(
        at=time.time(),
        used_bytes=walked.used,
        entries=walked.entries,
        partial=walked.partial,
        log_bytes=walked.logs,
    )


def _complain(work: asyncio.Task[None]) -> None:
    if not work.cancelled() and (error := work.exception()) is not None:
        _LOG.error("sampling failed", exc_info=error)
