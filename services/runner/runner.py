"""All tasks and all drivers of this host: who says what, whom it concerns, what is lost (design: Hello)."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING

from services.common.keys import Executor, TaskKey
from services.runner import commands, inbound, inquiries
from services.runner.alarms import Alarms
from services.runner.book import Book
from services.runner.events import Gone, HandsSeen, Overruled, Tick
from services.runner.header import Header
from services.runner.links import Link
from services.runner.news import News
from services.runner.plan import RUN_LIMIT
from services.runner.records import Phase
from services.runner.table import Table
from services.runner.tasks import detach, next_wakeup
from services.runner.troubles import Troubles
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from services.common.attach import Session
    from services.common.watch import Broadcast
    from services.runner.archive import Archive
    from services.runner.events import Decision, Event
    from services.runner.inquiries import Listener
    from services.runner.records import Moment
    from services.runner.store import Store
    from trivet.link.v1 import link_pb2

_LOG = logging.getLogger(__name__)

# Seconds between two attempts to write a journal that takes no records.
RETRY_SECS = 1.0
# An alarm that rings later than this says that this process did not run, not that nobody came.
_LATE_SECS = 5.0


class Runner:
    """Handler of the Attach streams. Plain code on the event loop: nothing waits between event, record and action."""

    def __init__(
        self,
        store: Store,
        archive: Archive,
        watchers: Broadcast[runner_pb2.WatchTasksResponse],
        *,
        clock: Callable[[], Moment],
        lease: float,
        run_limit: int = RUN_LIMIT,
    ) -> None:
        """Starts nothing.

        Args:
            store: Journals of the tasks.
            archive: Tasks of which nothing is left.
            watchers: Told every change.
            clock: Now.
            lease: Seconds without a driver after which its tasks are lost.
            run_limit: Runs of one process of a new task, daemons exempt; 0: no limit.
        """
        self._store = store
        self._archive = archive
        self._news = News(watchers)
        self._clock = clock
        self._lease = lease
        self._run_limit = run_limit
        self._alarms = Alarms(lambda: clock().boot, self._ring)
        self.troubles = Troubles()
        # What is only asked of the drivers.
        self.listeners: list[Listener] = []
        self._table = Table()
        self._links: dict[Executor, Link] = {}

    @property
    def books(self) -> dict[TaskKey, Book]:
        """All live tasks."""
        return self._table.books

    # Life of the service

    def adopt(self, book: Book, boot_id: str) -> None:
        """Takes in a task from a journal. It waits for its driver, unless it ran in another boot of the host."""
        self._table.add(book)
        if book.head.facts.boot_id != boot_id:
            self._lose(book, "the host was started anew")
        elif book.state.phase is None:
            # The header is all that was written.
            self._step(book, [])

    def start_leases(self) -> None:
        """Counts the time in which drivers may come back, from now."""
        until = self._clock().boot + self._lease
        for executor in self._table.executors():
            self._alarms.set(executor, until)

    def close(self) -> None:
        """Closes the journals."""
        self._alarms.close()
        for book in self.books.values():
            book.log.close()

    def attached(self, key: TaskKey) -> bool:
        """The driver of a task is there."""
        return key.executor in self._links

    def books_of(self, executor: Executor) -> list[Book]:
        """The live tasks of an executor."""
        return self._table.of(executor)

    def send(self, executor: Executor, message: runner_pb2.AttachResponse) -> bool:
        """Passes a message of a listener on; False: the driver is not there."""
        link = self._links.get(executor)
        if link is not None:
            link.session.send(message)
        return link is not None

    # Handler of the streams

    def on_hello(
        self,
        session: Session[runner_pb2.AttachResponse],
        hello: link_pb2.Hello,
        tasks: list[link_pb2.HelloTask],
    ) -> None:
        """Brings both sides to the same view, row by row of the design's table."""
        executor = session.executor
        link = self._links[executor] = Link(session, hello)
        self._alarms.set(executor, None)
        for other in self._table.others(executor):
            self._lose_all(other, "the executor was started anew")
        listed = set()
        for task in tasks:
            key = TaskKey.of(task.key)
            listed.add(key)
            book = self.books.get(key)
            if book is not None and book.head.facts.boot_id == hello.boot_id:
                book.compare(task.task_hash)
                self._step(book, inbound.hello_task(task), tell=True)
            elif book is not None:
                self._lose(book, "the host was started anew")
            elif not self._tell_archived(link, key, task.hands.alive):
                link.unknown[key] = task
                session.send(runner_pb2.AttachResponse(need_task={"key": key.to_pb()}))
        for book in self._table.of(executor):
            if book.key not in listed:
                self._lose(book, "the executor does not know the task any more")

    def on_message(self, session: Session[runner_pb2.AttachResponse], message: runner_pb2.AttachRequest) -> None:
        """Anything that a driver says after its Hello."""
        link = self._links.get(session.executor)
        kind = message.WhichOneof("message")
        if link is None or link.session is not session or kind is None:
            return
        content = getattr(message, kind)
        key = TaskKey.of(content.key) if kind in inbound.KEYED else None
        if key is None or key.executor != session.executor:
            _LOG.error("message refused", extra={"fields": {"executor": session.executor.executor_id, "kind": kind}})
            return
        if kind in inquiries.KINDS:
            for listener in self.listeners:
                listener.on_answer(key, kind, content)
        elif kind == "launch":
            self._on_launch(link, key, content.info)
        elif (book := self.books.get(key)) is not None:
            self._on_task(book, kind, content)
        else:
            link.remember(key, kind, content)

    def on_detach(self, session: Session[runner_pb2.AttachResponse]) -> None:
        """The driver is gone, for how long nobody knows."""
        executor = session.executor
        link = self._links.get(executor)
        if link is None or link.session is not session:
            return
        del self._links[executor]
        for listener in self.listeners:
            listener.on_detached(executor)
        books = self._table.of(executor)
        if books:
            self._alarms.set(executor, self._clock().boot + self._lease)
        for book in books:
            detach(book.state)
            self._arm(book)
            self._news.tell(book, (), attached=False)

    # One task

    def end(self, book: Book, request: Event) -> None:
        """An operator's wish."""
        self._step(book, [request])

    def _on_launch(self, link: Link, key: TaskKey, info: bytes) -> None:
        known = self.books.get(key)
        if known is not None:
            known.compare(hashlib.sha256(info).digest())
            self._step(known, [], tell=True)
            return
        if self._tell_archived(link, key, 0):
            return
        task = link.unknown.pop(key, None)
        now = self._clock()
        rebuilt = task is not None and bool(task.hands.runs)
        head = Header(key, info, link.facts, now.wall, rebuilt, self._run_limit)
        book = Book(head, self._store.log_of(key), recorded=False)
        book.damage = self._store.damage_of(key)
        self._table.add(book)
        # A task that has just come has no processes: the same as a Hello without runs.
        events = [HandsSeen((), 0, hello=True)] if task is None else inbound.hello_task(task)
        refusal = book.refusal()
        self._step(book, [*events, refusal] if refusal else events, tell=True)
        fields = {"task": str(key), "rebuilt": head.rebuilt, "refused": str(book.invalid or "")}
        _LOG.info("task taken in", extra={"fields": fields})

    def _on_task(self, book: Book, kind: str, content: runner_pb2.AttachRequest) -> None:
        if kind == "forget":
            if not book.state.over:
                self._step(book, [Overruled(Phase.LOST, "the executor has forgotten the task")])
            self._archive_book(book)
            return
        self._step(book, [inbound.event(kind, content)])

    def _step(self, book: Book, events: Sequence[Event], *, tell: bool = False) -> None:
        self._carry_out(book, book.step(events, self._clock()), tell=tell)

    def _carry_out(self, book: Book, decision: Decision, *, tell: bool) -> None:
        link = self._links.get(book.key.executor)
        if link is not None:
            for action in decision.actions:
                link.session.send(book.command(action))
        self._news.tell(book, decision.records, attached=link is not None)
        news = book.news(always=tell)
        if news is not None and link is not None:
            link.session.send(runner_pb2.AttachResponse(task_state=news))
        for listener in self.listeners:
            listener.on_change(book)
        self._arm(book)

    def _arm(self, book: Book) -> None:
        self._alarms.set(book.key, next_wakeup(book.state))
        if book.trouble:
            self._alarms.set((book.key, "journal"), self._clock().boot + RETRY_SECS)
        self.troubles.note(book.key, trouble=bool(book.trouble))

    def _ring(self, name: Hashable, when: float) -> None:
        if isinstance(name, Executor):
            now = self._clock().boot
            if now - when > _LATE_SECS:
                self._alarms.set(name, now + self._lease)
            elif name not in self._links:
                self._lose_all(name, f"the executor has not been heard of for {self._lease:g} s")
        elif isinstance(name, TaskKey):
            if (book := self.books.get(name)) is not None:
                self._step(book, [Tick(late=self._clock().boot - when > _LATE_SECS)])
        elif isinstance(name, tuple) and (book := self.books.get(name[0])) is not None:
            if book.leaving:
                self._archive_book(book)
                return
            decision = book.retry(self._clock())
            if decision is None:
                self._arm(book)
            else:
                self._carry_out(book, decision, tell=False)

    # Ends

    def _lose_all(self, executor: Executor, why: str) -> None:
        for book in self._table.of(executor):
            self._lose(book, why)

    def _lose(self, book: Book, why: str) -> None:
        """Nobody is there any more to forget the task in order."""
        if not book.state.over:
            self._step(book, [Gone(f"Task lost: {why}")])
        self._archive_book(book)

    def _tell_archived(self, link: Link, key: TaskKey, alive: int) -> bool:
        state = self._archive.state_of(key)
        if state is None:
            return False
        if alive:
            link.session.send(commands.terminate(key, 0.0))
        link.session.send(runner_pb2.AttachResponse(task_state=state))
        return True

    def _archive_book(self, book: Book) -> None:
        key = book.key
        if not self._archive.add(book):
            book.leaving = True
            self._alarms.set((key, "journal"), self._clock().boot + RETRY_SECS)
            self.troubles.note(key, trouble=True)
            return
        self.troubles.note(key, trouble=False)
        self._alarms.set(key, None)
        self._alarms.set((key, "journal"), None)
        self._table.remove(key)
        for listener in self.listeners:
            listener.on_gone(key)
