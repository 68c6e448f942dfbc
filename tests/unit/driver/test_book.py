"""The driver's memory: whatever moment it is killed at, the next one knows the same."""

from __future__ import annotations

import copy
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from executor_shim.driver.state import book as book_module
from executor_shim.driver.state import facts as facts_module
from executor_shim.driver.state.book import Book
from executor_shim.driver.state.entries import Accepted, EndRequest
from executor_shim.driver.state.memlog import MemoryLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
RUNNING, FINISHED = 1, 2


@pytest.fixture
def fds() -> Iterator[tuple[int, int]]:
    pair = (os.memfd_create("a"), os.memfd_create("b"))
    yield pair
    for fd in pair:
        os.close(fd)


def facts(book: Book) -> dict[str, Any]:
    """Everything that a next driver goes by."""
    return copy.deepcopy(
        {
            "stream": (
                book.stream_open,
                book.stream_offset,
                book.last_piece,
                book.decoder.snapshot(),
                book.stream_error,
            ),
            "events": (book.pending, book.handled, book.attempts),
            "self": (book.identity, book.secret, book.agent_lost_at, book.shutdown, book.launches),
            "ids": (list(book.over.items()), book.trimmed),
            "strays": [(key, u and (u.key, u.uuid, u.state, u.payload)) for key, u in book.strays.items()],
            "groups": book.groups,
            "outbox": [(u.key, u.uuid, u.state, u.payload) for u in book.outbox.values()],
            "tasks": [
                (
                    task.key,
                    task.group,
                    task.info,
                    task.launched_at,
                    task.listed,
                    task.completes_at,
                    [(e.cause, e.seq, e.grace, e.deadline, e.message, e.requested_at) for e in task.ends],
                    task.task_state,
                    task.verdict,
                    [(a.epoch, a.n, a.uuid, a.state) for a in task.accepted],
                    task.latch and (task.latch.state, task.latch.uuid, task.latch.origin, task.latch.acknowledged),
                )
                for task in book.tasks.values()
            ],
        }
    )


def uuid_of(n: int) -> bytes:
    return n.to_bytes(16, "big")


class Life:
    """Applies random but legal changes."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.n = 0

    def step(self, choice: int, arg: int) -> None:
        steps: list[Callable[[int], None]] = [
            self.launch, self.end, self.state, self.accept, self.acknowledge, self.forget, self.stream, self.event,
            self.agent, self.shutdown, self.launch_group, self.decide_group, self.limit_time, self.stray,
        ]  # fmt: skip
        steps[choice % len(steps)](arg)

    def any_task(self, arg: int) -> Any:
        tasks = list(self.book.tasks.values())
        return tasks[arg % len(tasks)] if tasks else None

    def launch(self, arg: int) -> None:
        if self.book.takes(f"t{arg % 3}"):
            self.book.launch(f"t{arg % 3}", b"info%d" % arg, float(arg))

    def end(self, arg: int) -> None:
        if task := self.any_task(arg):
            self.book.request_end(task, EndRequest(arg % 5, len(task.ends) + 1, None, float(arg), "why", 1.0))

    def state(self, arg: int) -> None:
        if task := self.any_task(arg):
            self.book.set_task_state(task, b"state%d" % arg)
            self.book.set_verdict(task, b"verdict%d" % arg)

    def accept(self, arg: int) -> None:
        task = self.any_task(arg)
        if task is not None and task.latch is None:
            self.n += 1
            state = FINISHED if arg % 4 == 0 else RUNNING
            self.book.accept(task, Accepted("e" if arg % 3 else "", self.n, uuid_of(self.n), state), b"bytes", 2.0)

    def acknowledge(self, arg: int) -> None:
        if self.book.outbox:
            self.book.acknowledge(list(self.book.outbox)[arg % len(self.book.outbox)])

    def forget(self, arg: int) -> None:
        task = self.any_task(arg)
        if task is not None and task.latch is not None and task.latch.acknowledged:
            self.book.forget(task)

    def stream(self, arg: int) -> None:
        if not self.book.stream_open:
            self.book.open_stream()
            self.book.take_bytes(HEAD)
        elif arg % 5 == 0:
            self.book.close_stream()
        else:
            self.book.take_bytes(b"4\r\n2\nab\r\n" if not self.book.stream_error else b"x")

    def event(self, arg: int) -> None:
        if self.book.pending:
            self.book.begin_event()
            if arg % 2:
                self.book.end_event()

    def agent(self, arg: int) -> None:
        if arg % 2:
            self.book.lose_agent(float(arg))
        else:
            self.book.find_agent()

    def shutdown(self, arg: int) -> None:
        if arg % 7 == 0:
            self.book.begin_shutdown(3, 1.0, float(arg))

    def launch_group(self, arg: int) -> None:
        free = [task_id for task_id in ("t0", "t1", "t2", "t3") if self.book.takes(task_id)]
        if free:
            self.book.launch_group([(task_id, b"info%d" % arg) for task_id in free[: arg % 4 + 1]], float(arg))

    def decide_group(self, arg: int) -> None:
        numbers = list(self.book.groups)
        if numbers:
            self.book.decide_group(numbers[arg % len(numbers)], arg % 2 + 1)

    def limit_time(self, arg: int) -> None:
        if task := self.any_task(arg):
            self.book.limit_time(task, float(arg))

    def stray(self, arg: int) -> None:
        pending = [update for update in self.book.strays.values() if update]
        if arg % 2 and pending:
            self.book.end_stray(pending[0])
        elif not self.book.last_launch(f"t{arg % 4}"):
            self.n += 1
            self.book.answer_stray(f"t{arg % 4}", uuid_of(self.n), 4, b"bytes")


@given(st.lists(st.tuples(st.integers(0, 13), st.integers(0, 50)), max_size=60), st.sampled_from([1, 200, 1 << 20]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_new_driver_knows_what_the_old_one_knew(steps: list[tuple[int, int]], compact_at: int) -> None:
    pair = (os.memfd_create("a"), os.memfd_create("b"))
    try:
        book = Book(MemoryLog(pair))
        # Compaction at any size must be invisible.
        book._compact_at = compact_at
        life = Life(book)
        book.ensure_secret()
        for choice, arg in steps:
            life.step(choice, arg)
            book._compact_at = min(book._compact_at, compact_at)
        assert facts(Book(MemoryLog(pair))) == facts(book)
    finally:
        for fd in pair:
            os.close(fd)


def test_a_half_written_record_is_as_if_never_written(fds: tuple[int, int]) -> None:
    book = Book(MemoryLog(fds))
    book.launch("a", b"x" * 100, 1.0)
    before = facts(book)
    size = book._log.size
    book.launch("b", b"y" * 100, 2.0)
    whole = os.pread(fds[0], 1 << 20, 0)
    for cut in range(size, len(whole)):
        os.ftruncate(fds[0], cut)
        assert facts(Book(MemoryLog(fds))) == before
        os.pwrite(fds[0], whole, 0)


def test_a_driver_killed_inside_compaction_leaves_one_complete_log(fds: tuple[int, int]) -> None:
    book = Book(MemoryLog(fds))
    book.launch("a", b"info", 1.0)
    before = facts(book)
    old = os.pread(fds[0], 1 << 20, 0)
    book._compact()
    new = os.pread(fds[1], 1 << 20, 0)
    os.pwrite(fds[0], old, 0)
    # Everything of the new file is written before its generation number, which comes first in the file.
    os.ftruncate(fds[1], 0)
    os.pwrite(fds[1], new[8:40], 8)
    assert facts(Book(MemoryLog(fds))) == before


def test_a_terminal_acknowledgement_takes_the_older_updates_with_it(fds: tuple[int, int]) -> None:
    book = Book(MemoryLog(fds))
    task = book.launch("a", b"", 1.0)
    book.accept(task, Accepted("e", 1, uuid_of(1), RUNNING), b"running", 1.0)
    book.accept(task, Accepted("e", 2, uuid_of(2), FINISHED), b"finished", 1.0)
    assert book.unacknowledged_tasks() == [b""]
    book.acknowledge(uuid_of(2))
    assert book.unacknowledged_updates() == []
    assert book.unacknowledged_tasks() == []
    assert task.latch is not None
    assert task.latch.acknowledged


def test_a_task_leaves_the_list_with_its_first_acknowledgement(fds: tuple[int, int]) -> None:
    book = Book(MemoryLog(fds))
    task = book.launch("a", b"info", 1.0)
    book.accept(task, Accepted("e", 1, uuid_of(1), RUNNING), b"1", 1.0)
    book.accept(task, Accepted("e", 2, uuid_of(2), RUNNING), b"2", 1.0)
    book.acknowledge(uuid_of(1))
    assert book.unacknowledged_tasks() == []
    assert book.unacknowledged_updates() == [b"2"]


def test_an_id_used_again_gets_a_new_launch_number(fds: tuple[int, int]) -> None:
    book = Book(MemoryLog(fds))
    first = book.launch("a", b"1", 1.0)
    book.forget(first)
    book._compact()
    second = Book(MemoryLog(fds)).launch("a", b"2", 2.0)
    assert (first.key, second.key) == ("1:a", "2:a")


def test_compaction_keeps_the_log_small(fds: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book_module, "_COMPACT_AT", 10_000)
    book = Book(MemoryLog(fds))
    book._compact_at = 10_000
    task = book.launch("a", b"i" * 500, 1.0)
    for n in range(2000):
        book.set_task_state(task, b"s%d" % n)
    assert book._log.size < 20_000


def test_launch_numbers_are_never_used_twice_though_few_ids_are_remembered(fds: tuple[int, int]) -> None:
    book = Book(MemoryLog(fds))
    used: set[str] = set()
    stays = book.launch("stays", b"", 0.0)
    for n in range(3 * facts_module.KEPT_IDS):
        # Some ids come again, long after they were trimmed away.
        task = book.launch(f"t{n % (2 * facts_module.KEPT_IDS)}", b"", 0.0)
        assert task.key not in used
        used.add(task.key)
        book.forget(task)
    assert book.live_task("stays") is stays
    assert Book(MemoryLog(fds)).launch("t0", b"", 0.0).key not in used


def test_an_older_launch_that_is_still_known_does_not_bring_a_number_back(fds: tuple[int, int]) -> None:
    book = Book(MemoryLog(fds))
    first = book.launch("t", b"", 0.0)
    book.accept(first, Accepted("e", 1, uuid_of(1), FINISHED), b"bytes", 1.0)
    book.acknowledge(uuid_of(1))
    second = book.launch("t", b"", 2.0)
    book.forget(second)
    book._compact()
    assert Book(MemoryLog(fds)).launch("t", b"", 3.0).launch == 3


def test_memory_stays_bounded_over_100_000_launches(fds: tuple[int, int]) -> None:
    book = Book(MemoryLog(fds))
    book.open_stream()
    book.take_bytes(HEAD)
    for n in range(100_000):
        task = book.launch(f"task-{n}", b"info", 0.0)
        book.accept(task, Accepted("e", 1, uuid_of(n), FINISHED), b"bytes", 1.0)
        book.acknowledge(uuid_of(n))
        book.forget(task)
        if n % 3 == 0:
            book.answer_stray(f"never-{n}", uuid_of(n), 4, b"bytes")
    assert not book.tasks
    assert not book.launches
    assert not book.outbox
    assert len(book.over) == len(book.strays) == facts_module.KEPT_IDS
    # What a next driver has to read.
    assert sum(os.fstat(fd).st_size for fd in fds) < 3 * book_module._COMPACT_AT
    # The highest number trimmed away grows by one for each thousand ids: 32 bits are enough for ever.
    assert Book(MemoryLog(fds)).trimmed <= 100_000 / facts_module.KEPT_IDS


def test_a_status_of_a_stray_task_is_neither_listed_nor_kept_once_it_was_taken(fds: tuple[int, int]) -> None:
    book = Book(MemoryLog(fds))
    book.answer_stray("t", uuid_of(1), 4, b"bytes")
    assert not book.unacknowledged_updates()
    assert not book.unacknowledged_tasks()
    [update] = book.to_send()
    assert update.stray
    # The next driver sends the same.
    [again] = Book(MemoryLog(fds)).to_send()
    assert (again.uuid, again.payload) == (update.uuid, update.payload)
    book.end_stray(update)
    assert not list(book.to_send())
    assert "t" in book.strays


def test_a_launch_takes_back_what_was_to_be_said_of_a_stray_task(fds: tuple[int, int]) -> None:
    book = Book(MemoryLog(fds))
    book.answer_stray("t", uuid_of(1), 4, b"bytes")
    [update] = book.to_send()
    book.launch("t", b"", 0.0)
    assert not list(book.to_send())
    # An answer to the one that is under way changes nothing.
    book.end_stray(update)
    assert "t" not in book.strays


def test_a_launch_of_an_id_whose_end_is_not_acknowledged_takes_its_statuses_back(fds: tuple[int, int]) -> None:
    book = Book(MemoryLog(fds))
    first = book.launch("t", b"", 0.0)
    book.accept(first, Accepted("e", 1, uuid_of(1), RUNNING), b"bytes", 1.0)
    # While it has no end, the same LAUNCH is a duplicate.
    assert not book.takes("t")
    book.accept(first, Accepted("e", 2, uuid_of(2), FINISHED), b"bytes", 1.0)
    assert book.takes("t")
    other = book.launch("u", b"", 0.0)
    book.accept(other, Accepted("e", 1, uuid_of(3), RUNNING), b"bytes", 1.0)
    second = book.launch("t", b"", 2.0)
    # Sent now they would be taken for the new task's.
    assert [update.uuid for update in book.to_send()] == [uuid_of(3)]
    assert first.latch is not None
    assert first.latch.acknowledged
    assert (second.launch, book.live_task("t")) == (2, second)
    assert facts(Book(MemoryLog(fds))) == facts(book)
