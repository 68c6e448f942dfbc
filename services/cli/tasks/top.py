"""`trivet top`: what tasks use, as it is sampled. Nothing is sampled while nobody looks."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from services.cli.tasks import note
from services.cli.tasks.inspection import usage_event
from services.cli.tasks.texts import clock, seconds, size, table
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from services.cli.tasks.connection import Runner

# Time that samples get beyond their intervals in `--once`: walks of sandboxes, loaded hosts.
_SLACK_SECS = 3.0
_ONCE_INTERVAL = 0.5
_DEFAULT_INTERVAL = 2.0
_HEAD = ("TASK", "CPU", "CPU TIME", "MEMORY", "PROCESSES", "THREADS", "DISK", "LIMIT", "EXECUTOR")
_PROCESS_HEAD = ("PROCESS", "RUN", "CPU", "CPU TIME", "MEMORY", "PROCESSES", "THREADS", "LOGS")

Key = tuple[str, str, str, int]


def _cpu(use: runner_pb2.Consumption) -> float:
    return use.cpus if use.HasField("cpus") else -1.0


# What the largest of stands at the top, of a task.
_BY: dict[str, Callable[[runner_pb2.TaskUsage], float]] = {
    "cpu": lambda usage: _cpu(usage.total),
    "time": lambda usage: usage.total.cpu_secs,
    "memory": lambda usage: usage.total.rss_bytes,
    "disk": lambda usage: usage.disk.used_bytes if usage.HasField("disk") else -1,
}


@dataclass(slots=True)
class Picture:
    """The newest samples of all tasks."""

    sort: str
    newest: dict[Key, runner_pb2.WatchUsageResponse] = field(default_factory=dict)

    def observe(self, update: runner_pb2.WatchUsageResponse) -> None:
        """Takes in one message; a task that is over is shown no more."""
        if update.over:
            self.newest.pop(key_of(update), None)
        else:
            self.newest[key_of(update)] = update

    def rows(self) -> list[tuple[str, ...]]:
        """All tasks, the one that uses most first; equal ones by their ids."""
        updates = sorted(self.newest.values(), key=lambda update: update.key.task_id)
        if self.sort in _BY:
            updates.sort(key=lambda update: _BY[self.sort](update.usage), reverse=True)
        return [_row(update) for update in updates]


def key_of(update: runner_pb2.WatchUsageResponse) -> Key:
    """Which task a message is about."""
    key = update.key
    return key.executor.framework_id, key.executor.executor_id, key.task_id, key.launch


def _row(update: runner_pb2.WatchUsageResponse) -> tuple[str, ...]:
    usage = update.usage
    disk, limit = "-", "-"
    if usage.HasField("disk"):
        disk = (">=" if usage.disk.partial else "") + size(usage.disk.used_bytes)
        limit = size(usage.disk.limit_bytes) if usage.disk.limit_bytes else "-"
    use = _columns(usage.total) if usage.at else ("-",) * 5
    return (update.key.task_id, *use, disk, limit, update.key.executor.executor_id)


def _columns(use: runner_pb2.Consumption) -> tuple[str, ...]:
    cpus = f"{use.cpus:.2f}" if use.HasField("cpus") else "-"
    return cpus, seconds(use.cpu_secs), size(use.rss_bytes), str(use.processes), str(use.threads)


def process_rows(update: runner_pb2.WatchUsageResponse) -> list[tuple[str, ...]]:
    """The living runs of one task."""
    usage = update.usage
    logs = usage.disk.log_bytes if usage.HasField("disk") else {}
    return [
        (
            entry.process,
            str(entry.run),
            *_columns(entry.use),
            size(logs[entry.process]) if entry.process in logs else "-",
        )
        for entry in usage.processes
    ]


async def top(options: argparse.Namespace, runner: Runner) -> int:
    """Shows usage until interrupted, or once; returns 0 as well when the one task that was named is over.

    Raises:
        RunnerRefused: the task that is named is unknown, or no answer.
    """
    default = _ONCE_INTERVAL if options.once else _DEFAULT_INTERVAL
    request = runner_pb2.WatchUsageRequest(
        task_id=options.task or "",
        executor_id=options.executor or "",
        framework_id=options.framework or "",
        interval_secs=options.interval or default,
    )
    picture = Picture(options.sort)
    if options.once:
        await _collect(runner, request, picture)
        for line in _objects(picture) if options.json else _text(picture, options.task):
            print(line)
        return 0
    if options.json:
        async with aclosing(runner.stream("WatchUsage", lambda: request, away=_away)) as updates:
            async for update in updates:
                print(json.dumps(usage_event(update)), flush=True)
        return 0
    return await _watch(runner, request, picture, options.task)


def _away(why: str) -> None:
    note(f"the runner is away, waiting for it ({why})")


async def _collect(runner: Runner, request: runner_pb2.WatchUsageRequest, picture: Picture) -> None:
    """Until every task whose executor is there has been sampled twice: cores in use are a difference."""
    wanted = await _attached(runner, request)
    if not wanted and not request.task_id:
        return
    over: set[Key] = set()

    def complete() -> bool:
        ready = {key for key, update in picture.newest.items() if update.usage.total.HasField("cpus")}
        return bool(wanted or over) and wanted <= ready | over

    try:
        async with (
            asyncio.timeout(2 * request.interval_secs + _SLACK_SECS),
            aclosing(runner.stream("WatchUsage", lambda: request, away=_away)) as updates,
        ):
            async for update in updates:
                picture.observe(update)
                if update.over:
                    over.add(key_of(update))
                if complete():
                    return
    except TimeoutError:
        # Shown is what has come; the rest has no numbers.
        missing = len(wanted - picture.newest.keys() - over)
        if missing:
            note(f"no sample in time of {missing} of {len(wanted)} tasks")


async def _attached(runner: Runner, request: runner_pb2.WatchUsageRequest) -> set[Key]:
    """Tasks that can be sampled."""
    listing = runner_pb2.ListTasksRequest(
        active_only=True,
        # A pattern there: each character stands for itself.
        task_id="".join(f"[{char}]" if char in "*?[" else char for char in request.task_id),
        executor_id=request.executor_id,
        framework_id=request.framework_id,
    )
    found: set[Key] = set()
    while True:
        page: runner_pb2.ListTasksResponse = await runner.ask("ListTasks", listing)
        for task in page.tasks:
            key = task.state.key
            if task.attached:
                found.add((key.executor.framework_id, key.executor.executor_id, key.task_id, key.launch))
        if not page.next_page_token:
            return found
        listing.page_token = page.next_page_token


def _objects(picture: Picture) -> Iterator[str]:
    for update in picture.newest.values():
        yield json.dumps(usage_event(update))


def _text(picture: Picture, task: str | None) -> Iterator[str]:
    rows = picture.rows()
    if not rows:
        yield f"{task}: nothing is sampled: it is over, or its executor is away" if task else "no tasks"
        return
    yield from table(_HEAD, rows)
    if task:
        for update in picture.newest.values():
            yield ""
            yield from table(_PROCESS_HEAD, process_rows(update))


async def _watch(runner: Runner, request: runner_pb2.WatchUsageRequest, picture: Picture, task: str | None) -> int:
    from services.cli.tasks.screen import Screen

    trouble = ""

    def away(why: str) -> None:
        nonlocal trouble
        trouble = f"the runner is away: {why}"
        # What was before may have ended meanwhile; the runner tells anew what there is.
        picture.newest.clear()

    def lines() -> list[str]:
        at = f"{clock(time.time())}  every {request.interval_secs:g} s, sorted by {picture.sort}"
        return [at + (f"  ({trouble})" if trouble else ""), *_text(picture, task)]

    async def follow() -> None:
        nonlocal trouble
        async with aclosing(runner.stream("WatchUsage", lambda: request, away=away)) as updates:
            async for update in updates:
                trouble = ""
                picture.observe(update)

    following = asyncio.ensure_future(follow())
    try:
        with Screen() as screen:
            # Samples of many tasks come one by one: shown together.
            while not following.done():
                screen.show(lines())
                await asyncio.wait([following], timeout=request.interval_secs)
            following.result()
            screen.show(lines())
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    return 0
