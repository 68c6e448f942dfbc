"""All tasks of all executors: what drivers say goes into the tasks, what the tasks propose goes back to the drivers."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING

import grpc

from services.common.journal import JournalUnavailable
from services.common.keys import TaskKey
from services.common.logs import Occasional
from services.common.watch import Broadcast
from services.reporter import explain_view, explain_words
from services.reporter import records as rec
from services.reporter.chain import Framework
from services.reporter.executors import Executors
from services.reporter.explain import stamped
from services.reporter.task import ReportedTask
from services.reporter.timers import Timers
from services.reporter.updates import alternating
from services.reporter.writer import StatusWriter
from trivet.reporter.v1 import reporter_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from services.common.keys import Executor
    from services.reporter.executors import ReporterSession
    from services.reporter.store import Store
    from services.reporter.task import Entry
    from services.reporter.timers import Timer
    from trivet.link.v1 import link_pb2

logger = logging.getLogger(__name__)

JOURNAL_RETRY = 1.0
"""Seconds between two attempts to write when the disk is full or failing."""


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
        self._timers = Timers(call_later)
        self._lease = lease
        self._now = now
        self._wall = wall
        self._writer = writer or StatusWriter()
        self._executors = Executors()
        self.journal_errors = 0
        self._complaint = Occasional()

    def load(self) -> None:
        """Takes up the tasks of an earlier process.

        Raises:
            OSError: The state directory cannot be read.
        """
        for task in self._store.load():
            self._executors.add(task)
        for executor in self._executors:
            self._start_lease(executor)

    def close(self) -> None:
        """Stops the timers and closes the journals."""
        self._timers.clear()
        self._store.close()

    # What drivers say.

    def on_hello(self, session: ReporterSession, hello: link_pb2.Hello, tasks: list[link_pb2.HelloTask]) -> None:
        """A driver has said everything that is true there."""
        executor = session.executor
        self._executors.attach(session)
        self._timers.cancel(executor)
        told = {TaskKey.of(task.key): task for task in tasks}
        for task in self._executors.tasks_of(executor):
            if task.key not in told:
                self._finish(task, "not in the driver's Hello")
        for key, said in told.items():
            task = self._executors.task(key) or self._open(key, said)
            task.chain.framework = _framework(hello)
            lost_end = task.lost_end(said)
            learned = task.trace.of_hello(said, hello.generation, lost_end, self._wall())
            self._note(task, [*learned, *task.hello(said)])
            for entry in task.unanswered():
                self._send(task, entry)
            self._decide(task)
        for other in self._executors.dead_runs_of(executor):
            self._end_executor(other, "its executor has been replaced by another run")

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
        task = self._executors.task(key)
        if task is None:
            if kind == "launch":
                task = self._open(key, None)
                task.chain.framework = _framework(session.hello)
                self._publish(task)
            else:
                # Late news of a task that is over; not worth more, as a driver could fill the log with it.
                logger.debug("task unknown, message dropped", extra={"fields": {"task": str(key), "message": kind}})
            return
        match kind:
            case "task_state":
                if task.chain.take_state(said):
                    self._note(task, task.trace.of_state(said, self._wall()))
            case "verdict":
                if task.chain.take_verdict(said):
                    self._note(task, task.trace.of_verdict(said, self._wall()))
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
        if not self._executors.detach(session):
            return
        tasks = self._executors.tasks_of(executor)
        if not tasks:
            self._executors.forget(executor)
            return
        self._start_lease(executor)
        for task in tasks:
            # Without a journal there is nothing to explain, or the service is stopping.
            if self._store.has_journal(task):
                self._note(task, [explain_words.detached(self._wall())])
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

    def explain(self, request: reporter_pb2.ExplainTaskRequest) -> reporter_pb2.ExplainTaskResponse:
        """How a task came to its status, and what it waits for.

        Raises:
            UnknownTask: There is none.
            AmbiguousTask: Several executors have a live one.
        """
        task = explain_view.choose(self._all(), request, self._attached)
        return explain_view.explained(task, attached=self._attached(task), now=self._now(), wall=self._wall())

    # Inside.

    def _attached(self, task: ReportedTask) -> bool:
        return task.closed is None and self._executors.session(task.key.executor) is not None

    def _open(self, key: TaskKey, said: link_pb2.HelloTask | None) -> ReportedTask:
        # A fresh epoch for each journal: after the loss of one file, no ref is ever used for two different statuses.
        epoch = os.urandom(8).hex()
        if said is None:
            opened = rec.Opened(key, epoch)
        else:
            opened = rec.Opened(key, epoch, tuple(said.accepted_states), alternating(said))
            if said.accepted_states:
                logger.warning(
                    "task taken over from its driver",
                    extra={"fields": {"task": str(key), "accepted": len(said.accepted_states)}},
                )
        task = ReportedTask(opened)
        self._executors.add(task)
        return task

    def _answer(self, task: ReportedTask, answer: reporter_pb2.Answer) -> None:
        records = task.answer(answer)
        if not records:
            return
        self._note(task, records)
        if answer.rejection:
            fields = {"task": str(task.key), "n": answer.ref.n, "rejection": answer.rejection}
            logger.warning("proposal rejected", extra={"fields": fields})
        if answer.rejection == reporter_pb2.REJECTION_UNKNOWN_TASK:
            self._finish(task, "unknown to its driver")

    def _decide(self, task: ReportedTask) -> None:
        """Proposes all that is due: journalled first, then sent."""
        if self._executors.session(task.key.executor) is None:
            # Nobody to tell, and the next Hello brings newer facts.
            return
        self._timers.cancel(task.key)
        while (record := task.propose(self._now(), self._wall(), self._writer)) is not None:
            try:
                self._store.append(task, [record])
            except JournalUnavailable as error:
                # Unwritten is unsaid: the status is held back, decided again when the disk takes it.
                self._count_journal_error(task, error)
                self._timers.start(task.key, JOURNAL_RETRY, lambda: self._decide(task))
                break
            task.apply(record)
            self._send(task, task.entries[-1])
        else:
            now = self._now()
            wakeup = task.chain.next_wakeup(now)
            if wakeup is not None:
                self._timers.start(task.key, wakeup - now, lambda: self._decide(task))
        self._publish(task)

    def _send(self, task: ReportedTask, entry: Entry) -> None:
        session = self._executors.session(task.key.executor)
        if session is not None:
            session.send(reporter_pb2.AttachResponse(proposal=task.proposal(entry)))

    def _note(self, task: ReportedTask, records: Sequence[rec.Record]) -> None:
        """Takes in what the driver said about proposals."""
        if not records:
            return
        records = stamped(records, self._wall)
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
        self._timers.cancel(task.key)
        closed = task.close(self._wall())
        last = explain_words.closed(why, closed.at)
        if self._store.has_journal(task):
            self._note(task, [last, closed])
        else:
            task.apply(last)
            task.apply(closed)
        self._executors.remove(task)
        self._store.finish(task)
        self._publish(task)

    def _start_lease(self, executor: Executor) -> None:
        self._timers.start(
            executor, self._lease, lambda: self._end_executor(executor, "its executor has not come back")
        )

    def _end_executor(self, executor: Executor, why: str) -> None:
        for task in self._executors.tasks_of(executor):
            self._finish(task, why)
        self._timers.cancel(executor)
        self._executors.forget(executor)

    def _count_journal_error(self, task: ReportedTask, error: JournalUnavailable) -> None:
        self.journal_errors += 1
        self._complaint.error(logger, "journal not written", {"task": str(task.key), "error": str(error)})

    def _all(self) -> Iterator[ReportedTask]:
        yield from self._store.finished.values()
        yield from self._executors.all_tasks()

    def _view(self, task: ReportedTask) -> reporter_pb2.TaskStatuses:
        return task.to_pb(attached=task.closed is None and self._executors.session(task.key.executor) is not None)

    def _publish(self, task: ReportedTask) -> None:
        if self.watchers.watched:
            self.watchers.publish(self._view(task))


def _framework(hello: link_pb2.Hello) -> Framework:
    return Framework(hello.partition_aware, hello.task_killing_state)
