"""Logs of runs, read by the drivers: one piece at a time travels, when the operator's client has taken the last."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

from services.common.task.environment import SANDBOX
from services.runner import commands
from services.runner.errors import BadRequest, Busy, ExecutorAway, ExecutorGone, LogRefused, NoSuchLog, UnknownTask
from services.runner.processes import ProcessState
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from services.common.keys import Executor, TaskKey
    from services.runner.book import Book
    from services.runner.errors import RunnerError
    from services.runner.runner import Runner

_STREAMS = {
    runner_pb2.LOG_STREAM_UNSPECIFIED: "stdout",
    runner_pb2.LOG_STREAM_STDOUT: "stdout",
    runner_pb2.LOG_STREAM_STDERR: "stderr",
}
_ERRORS: dict[int, type[RunnerError]] = {
    runner_pb2.LOG_ERROR_MISSING: NoSuchLog,
    runner_pb2.LOG_ERROR_REFUSED: LogRefused,
    runner_pb2.LOG_ERROR_BUSY: Busy,
    runner_pb2.LOG_ERROR_FAILED: LogRefused,
}
# A driver that is there answers within milliseconds, unless a disk hangs or it waits for more to be written.
ANSWER_SECS = 30.0


class LogDesk:
    """All readers. A listener of the runner."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._numbers = itertools.count(1)
        # None: the driver is gone.
        self._readers: dict[tuple[TaskKey, int], asyncio.Queue[runner_pb2.LogPiece | None]] = {}

    # What the runner tells

    def on_detached(self, executor: Executor) -> None:
        """Readers have to come again."""
        for (key, _), queue in self._readers.items():
            if key.executor == executor:
                queue.put_nowait(None)

    def on_answer(self, key: TaskKey, kind: str, content: Any) -> None:
        """A piece of a log."""
        queue = self._readers.get((key, content.id)) if kind == "log_piece" else None
        # At most one is wanted at a time: more are a mistake of the driver's, and are not kept.
        if queue is not None and queue.empty():
            queue.put_nowait(content)

    def on_change(self, book: Book) -> None:
        """Nothing of this concerns logs."""

    def on_gone(self, key: TaskKey) -> None:
        """The driver reads on to the end, and says when that is."""

    # What operators ask

    def is_gone(self, book: Book) -> bool:
        """The task is over and its executor not there: it has no reason to come back."""
        return book.state.over and not self._runner.attached(book.key)

    async def read(
        self, book: Book, request: runner_pb2.ReadLogRequest
    ) -> AsyncGenerator[runner_pb2.ReadLogResponse, None]:
        """The log of one run of a live task.

        Raises:
            BadRequest: A field has a value that cannot be.
            UnknownTask: The task has no such process, or the process no such run.
            ExecutorAway: The driver is not there, or has gone: what was read so far is read.
            NoSuchLog: There is no such file.
            LogRefused: What is there is not read.
            Busy: Too many read.
        """
        run = chosen_run(book, request)
        if request.stream not in _STREAMS:
            raise BadRequest(f"stream: {request.stream} is neither stdout nor stderr")
        key = book.key
        number = next(self._numbers)
        queue: asyncio.Queue[runner_pb2.LogPiece | None] = asyncio.Queue()
        self._readers[key, number] = queue
        try:
            order = runner_pb2.OpenLog(
                key=key.to_pb(),
                id=number,
                path=f"{commands.log_directory(request.process, run)}/{_STREAMS[request.stream]}",
                process=request.process,
                run=run,
                offset=request.offset,
                tail_lines=request.tail_lines,
                limit=request.limit,
                follow=request.follow,
                file=request.file,
            )
            if not self._runner.send(key.executor, runner_pb2.AttachResponse(open_log=order)):
                raise _away(book, request.process, run)
            while True:
                piece = await self._piece(queue, key, patient=request.follow)
                if piece is None:
                    raise _away(book, request.process, run)
                if piece.error:
                    raise _ERRORS.get(piece.error, LogRefused)(
                        f"process '{request.process}', run {run}: {piece.detail}"
                    )
                yield piece.piece
                if piece.piece.eof:
                    return
                self._runner.send(
                    key.executor, runner_pb2.AttachResponse(next_piece={"key": key.to_pb(), "id": number})
                )
        finally:
            del self._readers[key, number]
            self._runner.send(key.executor, runner_pb2.AttachResponse(close_log={"key": key.to_pb(), "id": number}))

    async def _piece(
        self, queue: asyncio.Queue[runner_pb2.LogPiece | None], key: TaskKey, *, patient: bool
    ) -> runner_pb2.LogPiece | None:
        try:
            async with asyncio.timeout(None if patient else ANSWER_SECS):
                return await queue.get()
        except TimeoutError:
            raise ExecutorAway(f"{key.task_id}: the log could not be read within {ANSWER_SECS:g} s") from None


def chosen_run(book: Book, request: runner_pb2.ReadLogRequest) -> int:
    """The run that is asked for.

    Raises:
        BadRequest: No process is named.
        UnknownTask: There is no such process or run, or it has not been started yet.
    """
    name = request.process
    if not name:
        raise BadRequest("process: must not be empty")
    runs = book.state.runs.get(name)
    if runs is None:
        raise UnknownTask(f"process: task '{book.key.task_id}' has no process '{name}'")
    if request.HasField("run"):
        newest = book.state.newest.get(name)
        if newest is None or request.run > newest.run:
            raise UnknownTask(f"run: process '{name}' of task '{book.key.task_id}' has no run {request.run}")
        # Runs that are too old to be shown may still have their files.
        return request.run
    started = [run.run for run in runs.values() if run.state is not ProcessState.WAITING]
    if not started:
        raise UnknownTask(f"process: '{name}' of task '{book.key.task_id}' has not been started yet")
    return max(started)


def gone(response: runner_pb2.GetTaskResponse, process: str) -> ExecutorGone:
    """Of a task that is over: its executor is not there to read anything."""
    task = response.task
    logs = f"{SANDBOX}/{commands.LOGS}/{process}".rstrip("/")
    return ExecutorGone(
        f"task_id: '{task.state.key.task_id}' is over and its executor gone, so nobody can read its logs; until Mesos "
        f"collects its garbage they are {_place(task.hostname, task.sandbox, logs)}"
    )


def _away(book: Book, process: str, run: int) -> ExecutorAway:
    facts = book.head.facts
    place = _place(facts.hostname, facts.host_sandbox or facts.sandbox, commands.log_directory(process, run))
    why = "its executor is not attached at the moment"
    return ExecutorAway(f"{book.key.task_id}: {why}: ask again from where you were, or look {place}")


def _place(hostname: str, sandbox: str, path: str) -> str:
    """As far as the executor has said where it is."""
    return f"on {hostname or 'its host'} in {sandbox or '(sandbox unknown)'}/{path}"
