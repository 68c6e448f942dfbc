"""What tasks use: who wants to know it, what the drivers say, and whether a sandbox has outgrown its reservation.

Drivers sample what they are told to and nothing else. What is wanted of a task is computed anew whenever something
changes, and told when it differs from what was told last on the driver's stream.
"""

from __future__ import annotations

import asyncio
import math
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from services.common.keys import TaskKey
from services.common.task.environment import SANDBOX
from services.common.watch import Broadcast
from services.runner import commands
from services.runner.budgets import Request
from services.runner.errors import BadRequest
from services.runner.records import Cause
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator

    from services.common.keys import Executor
    from services.runner.book import Book
    from services.runner.runner import Runner

# Aurora: how often the sandbox is measured (disk collection interval).
DISK_SECS = 60.0
# `WatchUsageRequest.interval_secs`.
DEFAULT_SECS = 5.0
MIN_SECS, MAX_SECS = 0.5, 3600.0
# How long GetTask waits for a sample.
FRESH_SECS = 2.0
# Samples that a watcher may be behind.
_BEHIND = 5000


class Demand(NamedTuple):
    """What is to be sampled of a task: seconds between two samples, 0: nothing."""

    process_secs: float = 0.0
    disk_secs: float = 0.0


class _Watch(NamedTuple):
    takes: Callable[[TaskKey], bool]
    interval: float


def demand(intervals: Iterable[float], *, limited: bool, disk_secs: float) -> Demand:
    """What is wanted of a living task.

    Args:
        intervals: Of everybody who watches it.
        limited: Its sandbox may not grow without bounds, and it is not being ended yet.
        disk_secs: How often sandboxes are measured.
    """
    process_secs = min(intervals, default=0.0)
    return Demand(process_secs, disk_secs if limited or process_secs else 0.0)


def interval(seconds: float) -> float:
    """The interval that a request asks for.

    Raises:
        BadRequest: It is none.
    """
    if not seconds:
        return DEFAULT_SECS
    if not (math.isfinite(seconds) and MIN_SECS <= seconds <= MAX_SECS):
        raise BadRequest(f"interval_secs: must be {MIN_SECS:g} to {MAX_SECS:g}, is {seconds:g}")
    return seconds


def over_limit(used: int, limit: int, tasks: int) -> str:
    """Why a task has to end; empty: it has not. `tasks`: how many share the sandbox and the limit."""
    if not limit or used <= limit:
        return ""
    shared = "" if tasks == 1 else f" for {tasks} tasks"
    return f"Disk limit exceeded: the sandbox takes {used} bytes, reserved are {limit}{shared}"


class UsageDesk:
    """See the module. A listener of the runner."""

    def __init__(self, runner: Runner, disk_secs: float = DISK_SECS) -> None:
        """`disk_secs`: 0: sandboxes are not measured, and limits not enforced."""
        self._runner = runner
        self._disk_secs = disk_secs
        self._watches: set[_Watch] = set()
        self._told: dict[TaskKey, Demand] = {}
        self._newest: dict[TaskKey, runner_pb2.TaskUsage] = {}
        # Tasks that are over, of which watchers know it.
        self._over: set[TaskKey] = set()
        self.news: Broadcast[runner_pb2.WatchUsageResponse] = Broadcast(_BEHIND)

    # What the runner tells

    def on_detached(self, executor: Executor) -> None:
        """Nobody samples any more."""
        for book in self._runner.books_of(executor):
            self._told.pop(book.key, None)

    def on_change(self, book: Book) -> None:
        """Tells the driver what is wanted now, if that is something else, and watchers that the task is over."""
        if book.state.over:
            self._tell_over(book.key)
        wanted = self._wanted(book)
        if wanted == self._told.get(book.key, Demand()) or not self._runner.attached(book.key):
            return
        self._told[book.key] = wanted
        sampling = runner_pb2.Sampling(
            key=book.key.to_pb(),
            process_secs=wanted.process_secs,
            disk_secs=wanted.disk_secs,
            directory=SANDBOX,
            logs=commands.LOGS,
        )
        self._runner.send(book.key.executor, runner_pb2.AttachResponse(sampling=sampling))

    def on_gone(self, key: TaskKey) -> None:
        """The task is over."""
        for table in (self._told, self._newest):
            table.pop(key, None)
        self._tell_over(key)
        self._over.discard(key)

    def _tell_over(self, key: TaskKey) -> None:
        # Its executor may never say that it has forgotten the task.
        if key not in self._over:
            self._over.add(key)
            self.news.publish(runner_pb2.WatchUsageResponse(key=key.to_pb(), over=True))

    def on_answer(self, key: TaskKey, kind: str, content: Any) -> None:
        """New samples of a task."""
        book = self._runner.books.get(key)
        if kind != "usage" or book is None or book.state.over:
            return
        usage = runner_pb2.TaskUsage()
        usage.CopyFrom(content.usage)
        if usage.HasField("disk"):
            usage.disk.limit_bytes = book.disk_limit
        before = self._newest.get(key)
        self._newest[key] = usage
        self.news.publish(self._shown(book, usage))
        if usage.HasField("disk") and (before is None or before.disk.at != usage.disk.at):
            self._enforce(book, usage.disk.used_bytes)

    # What operators ask

    def newest(self, key: TaskKey) -> runner_pb2.TaskUsage | None:
        """The newest sample of a living task."""
        return self._newest.get(key)

    async def fresh(self, key: TaskKey, wait: float = FRESH_SECS) -> runner_pb2.TaskUsage | None:
        """Has a sample taken; the newest one if none comes in time."""
        with self._watching(lambda each: each == key, DEFAULT_SECS):
            try:
                async with asyncio.timeout(wait), aclosing(self.news.subscribe(())) as events:
                    async for event in events:
                        if event.key == key.to_pb() and (event.over or event.usage.at):
                            break
            except TimeoutError:
                # The driver is away or busy.
                pass
        return self.newest(key)

    async def watch(
        self, takes: Callable[[TaskKey], bool], seconds: float
    ) -> AsyncGenerator[runner_pb2.WatchUsageResponse, None]:
        """The newest samples of all tasks that `takes` names, then each new one.

        Raises:
            SlowSubscriber: The watcher is too far behind.
        """
        with self._watching(takes, seconds):
            known = [
                self._shown(book, usage) for key, book in self._runner.books.items() if (usage := self._newest.get(key))
            ]
            async with aclosing(self.news.subscribe(known)) as events:
                async for event in events:
                    if takes(TaskKey.of(event.key)):
                        yield event

    @contextmanager
    def _watching(self, takes: Callable[[TaskKey], bool], seconds: float) -> Iterator[None]:
        watch = _Watch(takes, seconds)
        self._watches.add(watch)
        self._review()
        try:
            yield
        finally:
            self._watches.discard(watch)
            self._review()

    def _review(self) -> None:
        for book in list(self._runner.books.values()):
            self.on_change(book)

    def _shown(self, book: Book, usage: runner_pb2.TaskUsage) -> runner_pb2.WatchUsageResponse:
        return runner_pb2.WatchUsageResponse(key=book.key.to_pb(), name=book.name, usage=usage)

    # Limits

    def _wanted(self, book: Book) -> Demand:
        if book.state.over:
            return Demand()
        intervals = [watch.interval for watch in self._watches if watch.takes(book.key)]
        limited = bool(self._disk_secs) and book.state.cause is None and book.disk_limit > 0
        return demand(intervals, limited=limited, disk_secs=self._disk_secs)

    def _enforce(self, book: Book, used: int) -> None:
        """The tasks of an executor share its sandbox: nobody can tell whose a file is, so their limits add up."""
        sharers = [each for each in self._runner.books_of(book.key.executor) if not each.state.over]
        limits = [each.disk_limit for each in sharers]
        if book.state.cause is None and all(limits):
            why = over_limit(used, sum(limits), len(limits))
            if why:
                self._runner.end(book, Request(Cause.DISK_LIMIT, message=why))
