"""`trivet logs`: what processes have written, and what they write."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from services.cli.tasks import CANNOT_START, FAILED, Failure, note
from services.cli.tasks.connection import PATIENCE_SECS, RunnerRefused
from services.cli.tasks.output import STREAMS, Output
from services.cli.tasks.texts import OVER
from services.cli.views.texts import log_directory
from services.cli.waiting import first
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from services.cli.tasks.connection import Runner
    from services.cli.tasks.output import Sink
    from trivet.link.v1 import link_pb2

_EVENTS = {
    runner_pb2.LOG_EVENT_GAP: "it was rotated faster than it was read: something is missing here",
    runner_pb2.LOG_EVENT_TRUNCATED: "it was cut off: reading goes on at its beginning",
}


async def logs(options: argparse.Namespace, runner: Runner) -> int:
    """Prints logs, and goes on with them when asked to; 1: one could not be read.

    Raises:
        RunnerRefused: there is no such task, or several, or no answer.
        Failure: there is no such process or run.
    """
    request = runner_pb2.GetTaskRequest(
        task_id=options.task, executor_id=options.executor or "", framework_id=options.framework or ""
    )
    whole: runner_pb2.GetTaskResponse = await runner.ask("GetTask", request)
    task = whole.task
    if task.state.phase in OVER and not task.attached:
        # Only the executor could read them. Where it was, they still are until Mesos collects its garbage.
        where = f"on {task.hostname or 'its host'} in {log_directory(task.sandbox)}"
        raise Failure(f"{options.task}: it is over and its executor is gone: its logs are {where}", status=FAILED)
    started = [run for run in task.processes if _has_begun(run)]
    known = [*(process.name for process in whole.spec.task.processes), *(run.process for run in started)]
    names = list(dict.fromkeys(known))
    if options.process is not None:
        _require(options, names, started)
        started = [run for run in started if run.process == options.process]
        names = [options.process]
    reading = _Reading(options, runner, task.state.key, Output(names))
    if options.run is not None:
        await reading.finish([(options.process, options.run)])
    elif options.follow:
        await reading.follow([(run.process, run.run) for run in started])
    else:
        if not started:
            note(f"{options.task}: no process has been started yet (-f waits for them)")
        await reading.finish([(run.process, run.run) for run in started])
    return FAILED if reading.failed else 0


def _require(options: argparse.Namespace, names: Iterable[str], started: Iterable[runner_pb2.ProcessRun]) -> None:
    """Refuses a process that is not the task's, and one to which nothing has happened.

    Raises:
        Failure: it is one.
    """
    if options.process not in names:
        raise Failure(
            f"{options.task}: no process {options.process!r}",
            f"it has: {', '.join(map(repr, names)) or 'none'}",
            status=CANNOT_START,
        )
    begun = options.follow or any(run.process == options.process for run in started)
    if options.run is None and not begun:
        raise Failure(
            f"{options.task}: process {options.process!r} has not been started yet (-f waits for it)",
            status=CANNOT_START,
        )


def _has_begun(run: runner_pb2.ProcessRun) -> bool:
    """Its files are there: they are made before it runs."""
    waiting = (runner_pb2.PROCESS_STATE_WAITING, runner_pb2.PROCESS_STATE_FORKED)
    return run.state not in waiting and not (run.error and not run.running_at)


@dataclass(slots=True)
class _Place:
    """How far a log has been read; asked for again from there."""

    file: int = 0
    offset: int = 0
    tail: int = 0


class _Reading:
    """All logs of one command. One worker a process and stream reads its runs one after the other."""

    def __init__(self, options: argparse.Namespace, runner: Runner, key: link_pb2.TaskKey, output: Output) -> None:
        self._options = options
        self._runner = runner
        self._key = key
        self._output = output
        self._streams = [options.stream] if options.stream else ["stdout", "stderr"]
        self._away: set[str] = set()
        self.failed = False

    async def finish(self, runs: Iterable[tuple[str, int]]) -> None:
        """Reads these runs, one after the other; those that live only with --follow to their ends."""
        for process, run in runs:
            if self._options.follow:
                await asyncio.gather(*(self._read(process, run, stream, tail=True) for stream in self._streams))
            else:
                for stream in self._streams:
                    await self._read(process, run, stream, tail=True)

    async def follow(self, begun: Iterable[tuple[str, int]]) -> None:
        """Reads these runs and all that follow, until the task is over and everything is read."""
        queues: dict[tuple[str, str], asyncio.Queue[int | None]] = {}
        newest: dict[str, int] = {}
        workers: list[asyncio.Task[None]] = []
        failures: asyncio.Queue[asyncio.Task[None]] = asyncio.Queue()

        def take(process: str, run: int, *, tail: bool) -> None:
            if self._options.process not in (None, process) or run <= newest.get(process, -1):
                return
            # What was run while the runner was away is not told singly, but its files are there.
            runs = [run] if tail else list(range(newest.get(process, -1) + 1, run + 1))
            newest[process] = run
            for stream in self._streams:
                if (process, stream) not in queues:
                    queues[process, stream] = asyncio.Queue()
                    worker = asyncio.ensure_future(
                        self._work(process, stream, queues[process, stream], run if tail else -1)
                    )
                    worker.add_done_callback(failures.put_nowait)
                    workers.append(worker)
                for number in runs:
                    queues[process, stream].put_nowait(number)

        for process, run in begun:
            take(process, run, tail=True)

        async def watch() -> None:
            request = runner_pb2.WatchTasksRequest(task_id=self._key.task_id)
            seen = False
            async with aclosing(self._runner.stream("WatchTasks", lambda: request, away=self._is_away)) as events:
                async for event in events:
                    kind = event.WhichOneof("event")
                    if kind == "process" and event.process.key == self._key and _has_begun(event.process.run):
                        take(event.process.run.process, event.process.run.run, tail=False)
                    elif kind == "task" and event.task.state.key == self._key:
                        seen = True
                        for run in event.task.processes:
                            if _has_begun(run):
                                take(run.process, run.run, tail=False)
                        if event.task.state.phase in OVER:
                            return
                    elif kind == "snapshot" and not seen:
                        # A newer task has its id: of this one nothing more comes.
                        return

        async def all_of_them() -> None:
            await watch()
            for queue in queues.values():
                queue.put_nowait(None)
            await asyncio.gather(*workers)

        async def broken() -> None:
            while True:
                # Raises what a worker has raised: whoever reads our output has gone, say.
                (await failures.get()).result()

        try:
            await first(all_of_them(), broken())
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, process: str, stream: str, queue: asyncio.Queue[int | None], with_tail: int) -> None:
        while (run := await queue.get()) is not None:
            await self._read(process, run, stream, tail=run == with_tail)

    async def _read(self, process: str, run: int, stream: str, *, tail: bool) -> None:
        """Reads one log to its end, over restarts of whoever reads it for us."""
        options = self._options
        where = f"{process}/{run} {stream}"
        sink = self._output.sink(process, run, stream, to_stdout=bool(options.stream))
        place = _Place(tail=options.tail or 0 if tail else 0)

        def request() -> runner_pb2.ReadLogRequest:
            return runner_pb2.ReadLogRequest(
                task_id=self._key.task_id,
                executor_id=self._key.executor.executor_id,
                framework_id=self._key.executor.framework_id,
                process=process,
                run=run,
                stream=STREAMS[stream],
                offset=place.offset,
                file=place.file,
                tail_lines=place.tail,
                follow=options.follow,
            )

        patience = None if options.follow else PATIENCE_SECS
        try:
            async with aclosing(
                self._runner.stream("ReadLog", request, away=self._is_away, patience=patience)
            ) as pieces:
                async for piece in pieces:
                    self._away.clear()
                    if piece.event in _EVENTS:
                        sink.flush()
                        note(f"{where}: {_EVENTS[piece.event]}")
                    sink.write(piece.data)
                    place = _Place(piece.file, piece.offset + len(piece.data))
                    if piece.eof:
                        break
        except RunnerRefused as error:
            self._refused(error, sink, where)
        finally:
            sink.flush()

    def _refused(self, error: RunnerRefused, sink: Sink, where: str) -> None:
        if error.code is grpc.StatusCode.NOT_FOUND and not self._options.stream and "no such file" in str(error):
            # The process's logger makes none (console, none), or it has been removed; with --stdout that is said.
            return
        if error.code is grpc.StatusCode.UNAVAILABLE and not self._options.follow:
            raise error
        sink.flush()
        note(f"{where}: {error}")
        self.failed = True

    def _is_away(self, why: str) -> None:
        # All readers hear of it, one of them says it.
        if why not in self._away:
            self._away.add(why)
            note(f"{why}: waiting for it")
