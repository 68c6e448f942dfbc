"""All tasks of all executors: what drivers say goes into the tasks, what the tasks propose goes back to the drivers."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Protocol

import grpc

from services.common.journal import JournalUnavailable
from services.common.keys import Executor, TaskKey
from services.common.watch import Broadcast
from services.reporter import records as rec
from services.reporter.chain import Framework
from services.reporter.mapping import StatusWriter
from services.reporter.task import ReportedTask
from trivet.reporter.v1 import reporter_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from services.common.attach import Session
    from services.reporter.store import Store
    from services.reporter.task import Entry
    from trivet.link.v1 import link_pb2

    ReporterSession = Session[reporter_pb2.AttachResponse]

logger = logging.getLogger(__name__)

JOURNAL_RETRY = 1.0
"""Seconds between two attempts to write when the disk is full or failing."""


class Timer(Protocol):
    """What `loop.call_later` returns."""

    def cancel(self) -> None:
        """The function is not called any more."""


def boot_time() -> float:
    """CLOCK_BOOTTIME, seconds: goes on counting when this process is restarted or the host sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Reporter:
    """Handler of the Attach streams. Belongs to one event loop; the only blocking is a write to the page cache."""

    def __init__(
        self,
        store: Store,
        *,
        call_later: Callable[[float, Callable[[], None]], Timer],
        lease: float,
        now: Callable[[], float] = boot_time,
        wall: Callable[[], float] = time.time,
        writer: StatusWriter | None = None,
    ) -> None:
        """Nothing is read yet: see `load`.

        Args:
            store: The journals.
            call_later: As the event loop's: seconds, function.
            lease: Seconds without a driver after which an executor's tasks are no longer waited for.
            now: CLOCK_BOOTTIME, seconds.
            wall: Wall clock, seconds.
            writer: Words the statuses.
        """
        self.watchers: Broadcast[reporter_pb2.TaskStatuses] = Broadcast()
        self._store = store
        self._call_later = call_later
        self._lease = lease
        self._now = now
        self._wall = wall
        self._writer = writer or StatusWriter()
        self._executors: dict[Executor, dict[TaskKey, ReportedTask]] = {}
        # The incarnations of an executor, by framework id and executor id.
        self._runs: dict[tuple[str, str], set[Executor]] = {}
        self._sessions: dict[Executor, ReporterSession] = {}
        self._timers: dict[TaskKey | Executor, Timer] = {}
        self.journal_errors = 0

    def load(self) -> None:
        """Takes up the tasks of an earlier process.

        Raises:
            OSError: The state directory cannot be read.
        """
        for task in self._store.load():
            self._tasks_of(task.key.executor)[task.key] = task
        for executor in self._executors:
            self._start_lease(executor)

    def close(self) -> None:
        """Stops the timers and closes the journals."""
        for key in list(self._timers):
            self._cancel(key)
        self._store.close()

    # What drivers say.

    def on_hello(self, session: ReporterSession, hello: link_pb2.Hello, tasks: list[link_pb2.HelloTask]) -> None:
        """A driver has said everything that is true there."""
        executor = session.executor
        self._sessions[executor] = session
        self._cancel(executor)
        known = self._tasks_of(executor)
        told = {TaskKey.of(task.key): task for task in tasks}
        for key in known.keys() - told.keys():
            self._finish(known[key], "not in the driver's Hello")
        framework = Framework(hello.partition_aware, hello.task_killing_state)
        for key, said in told.items():
            task = known.get(key)
            if task is None:
                task = self._open(key, said)
            task.chain.framework = framework
            self._note(task, task.hello(said))
            for entry in task.unanswered():
                self._send(task, entry)
            self._decide(task)
        for other in self._earlier_runs_of(executor):
            for task in list(self._executors[other].values()):
                self._finish(task, "its executor has been replaced by another run")
            self._forget_executor(other)

    def on_message(self, session: ReporterSession, message: reporter_pb2.AttachRequest) -> None:
        """Anything after the Hello."""
        kind = message.WhichOneof("message")
        if kind is None:
            # A newer driver's; what it says about tasks reaches us in the messages that we know.
            return
        said = getattr(message, kind)
        key = TaskKey.of(said.key)
        if key.executor != session.executor:
            session.end(grpc.StatusCode.INVALID_ARGUMENT, f"{kind}.key.executor: not this executor")
            return
        task = self._executors[session.executor].get(key)
        if task is None:
            if kind == "launch":
                task = self._open(key, None)
                task.chain.framework = Framework(session.hello.partition_aware, session.hello.task_killing_state)
                self._publish(task)
            elif kind not in ("acknowledged", "forget"):
                logger.warning("task unknown, message dropped", extra={"fields": {"task": str(key), "message": kind}})
            return
        match kind:
            case "task_state":
                task.chain.take_state(said)
            case "verdict":
                task.chain.take_verdict(said)
            case "answer":
                self._answer(task, said)
            case "acknowledged":
                self._note(task, task.acknowledged(said))
            case "latched":
                self._note(task, task.latched(said.latch))
            case "forget":
                self._finish(task, "")
        if task.closed is None:
            self._decide(task)

    def on_detach(self, session: ReporterSession) -> None:
        """The stream is gone, or replaced by a newer one."""
        executor = session.executor
        if self._sessions.get(executor) is not session:
            return
        del self._sessions[executor]
        tasks = self._executors.get(executor)
        if not tasks:
            self._forget_executor(executor)
            return
        self._start_lease(executor)
        for task in tasks.values():
            self._publish(task)

    # What operators ask.

    def tasks(self) -> Iterator[reporter_pb2.TaskStatuses]:
        """All tasks, finished ones first."""
        for task in self._all():
            yield self._view(task)

    def task(self, task_id: str) -> reporter_pb2.TaskStatuses | None:
        """The newest launch of a task; a live one before a finished one."""
        found = None
        for task in self._all():
            if task.key.task_id == task_id:
                found = task
        return None if found is None else self._view(found)

    # Inside.

    def _tasks_of(self, executor: Executor) -> dict[TaskKey, ReportedTask]:
        tasks = self._executors.get(executor)
        if tasks is None:
            tasks = self._executors[executor] = {}
            self._runs.setdefault(executor[:2], set()).add(executor)
        return tasks

    def _open(self, key: TaskKey, said: link_pb2.HelloTask | None) -> ReportedTask:
        # A fresh epoch for each journal: after the loss of one file, no ref is ever used for two different statuses.
        epoch = os.urandom(8).hex()
        if said is None:
            opened = rec.Opened(key, epoch)
        else:
            opened = rec.Opened(key, epoch, tuple(said.accepted_states), said.task_state.gated)
            if said.accepted_states:
                logger.warning(
                    "task taken over from its driver",
                    extra={"fields": {"task": str(key), "accepted": len(said.accepted_states)}},
                )
        task = ReportedTask(opened)
        self._executors[key.executor][key] = task
        return task

    def _answer(self, task: ReportedTask, answer: reporter_pb2.Answer) -> None:
        records = task.answer(answer)
        if not records:
            return
        self._note(task, records)
        if answer.rejection:
            name = reporter_pb2.Rejection.Name(answer.rejection) if answer.rejection in _REJECTIONS else "unknown"
            logger.warning(
                "proposal rejected",
                extra={"fields": {"task": str(task.key), "n": answer.ref.n, "rejection": name}},
            )
        if answer.rejection == reporter_pb2.REJECTION_UNKNOWN_TASK:
            self._finish(task, "unknown to its driver")

    def _decide(self, task: ReportedTask) -> None:
        """Proposes all that is due: journalled first, then sent."""
        executor = task.key.executor
        if executor not in self._sessions:
            # Nobody to tell, and the next Hello brings newer facts.
            return
        self._cancel(task.key)
        while (record := task.propose(self._now(), self._wall(), self._writer)) is not None:
            try:
                self._store.append(task, [record])
            except JournalUnavailable as error:
                # Unwritten is unsaid: the status is held back, decided again when the disk takes it.
                self._count_journal_error(task, error)
                self._timers[task.key] = self._call_later(JOURNAL_RETRY, lambda: self._decide(task))
                break
            task.apply(record)
            self._send(task, task.entries[-1])
        else:
            now = self._now()
            wakeup = task.chain.next_wakeup(now)
            if wakeup is not None:
                self._timers[task.key] = self._call_later(max(0.0, wakeup - now), lambda: self._decide(task))
        self._publish(task)

    def _send(self, task: ReportedTask, entry: Entry) -> None:
        session = self._sessions.get(task.key.executor)
        if session is not None:
            session.send(reporter_pb2.AttachResponse(proposal=task.proposal(entry)))

    def _note(self, task: ReportedTask, records: Sequence[rec.Record]) -> None:
        """Takes in what the driver said about proposals."""
        if not records:
            return
        try:
            self._store.append(task, records)
        except JournalUnavailable as error:
            # The driver remembers it and says it again in its next Hello.
            self._count_journal_error(task, error)
        for record in records:
            task.apply(record)
        shorter = task.trim()
        if shorter is not None:
            try:
                self._store.rewrite(task, shorter)
            except JournalUnavailable as error:
                # The longer journal tells the same.
                self._count_journal_error(task, error)

    def _finish(self, task: ReportedTask, why: str) -> None:
        if why:
            logger.warning("task closed", extra={"fields": {"task": str(task.key), "why": why}})
        self._cancel(task.key)
        closed = task.close(self._wall())
        if self._store.has_journal(task):
            self._note(task, [closed])
        else:
            task.apply(closed)
        self._executors[task.key.executor].pop(task.key, None)
        self._store.finish(task)
        self._publish(task)

    def _earlier_runs_of(self, executor: Executor) -> list[Executor]:
        return [other for other in self._runs[executor[:2]] if other not in self._sessions]

    def _start_lease(self, executor: Executor) -> None:
        self._cancel(executor)
        self._timers[executor] = self._call_later(self._lease, lambda: self._lease_over(executor))

    def _lease_over(self, executor: Executor) -> None:
        for task in list(self._executors.get(executor, {}).values()):
            self._finish(task, "its executor has not come back")
        self._forget_executor(executor)

    def _forget_executor(self, executor: Executor) -> None:
        self._cancel(executor)
        if self._executors.pop(executor, None) is not None:
            runs = self._runs[executor[:2]]
            runs.discard(executor)
            if not runs:
                del self._runs[executor[:2]]

    def _cancel(self, key: TaskKey | Executor) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    def _count_journal_error(self, task: ReportedTask, error: JournalUnavailable) -> None:
        self.journal_errors += 1
        logger.error("journal not written", extra={"fields": {"task": str(task.key), "error": str(error)}})

    def _all(self) -> Iterator[ReportedTask]:
        yield from self._store.finished.values()
        for tasks in self._executors.values():
            yield from tasks.values()

    def _view(self, task: ReportedTask) -> reporter_pb2.TaskStatuses:
        return task.to_pb(attached=task.closed is None and task.key.executor in self._sessions)

    def _publish(self, task: ReportedTask) -> None:
        if self.watchers.watched:
            self.watchers.publish(self._view(task))


_REJECTIONS = frozenset(reporter_pb2.Rejection.values())
