"""KILL for tasks that the executor does not have: what is answered, and what is sent when."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from executor_shim.driver.agent.outbox import ACK_TIMEOUT, RETRY_PAUSE, SendPlan
from executor_shim.driver.exit import FIRST_TASK_SECS, linger_secs
from executor_shim.driver.state.book import Book
from executor_shim.driver.state.entries import Accepted
from executor_shim.driver.state.memlog import MemoryLog
from executor_shim.driver.strays import MESSAGE, answer_kill
from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def book() -> Iterator[Book]:
    fds = (os.memfd_create("a"), os.memfd_create("b"))
    yield Book(MemoryLog(fds))
    for fd in fds:
        os.close(fd)


def finish(book: Book, task_id: str) -> None:
    task = book.launch(task_id, b"", 0.0)
    uuid = os.urandom(16)
    book.accept(task, Accepted("e", 1, uuid, mesos_pb2.TASK_FINISHED), b"bytes", 0.0)
    book.acknowledge(uuid)
    book.forget(task)


def test_a_task_that_was_never_here_is_killed_once(book: Book) -> None:
    assert answer_kill(book, "t", "E")
    assert not answer_kill(book, "t", "E")
    [update] = book.to_send()
    status = executor_pb2.Call.Update.FromString(update.payload).status
    assert (status.task_id.value, status.state, status.message) == ("t", mesos_pb2.TASK_KILLED, MESSAGE)
    assert (status.executor_id.value, status.source) == ("E", mesos_pb2.TaskStatus.SOURCE_EXECUTOR)
    assert status.uuid == update.uuid
    assert len(status.uuid) == 16
    book.end_stray(update)
    assert not answer_kill(book, "t", "E")


def test_nothing_is_said_again_of_a_task_that_is_over(book: Book) -> None:
    finish(book, "t")
    assert not answer_kill(book, "t", "E")
    assert not list(book.to_send())


def test_nothing_is_said_once_ids_have_been_trimmed_away(book: Book) -> None:
    for n in range(1001):
        finish(book, f"t{n}")
    # Nobody knows any more whether it was here.
    assert not answer_kill(book, "t0", "E")
    assert not answer_kill(book, "never", "E")


def test_a_stray_status_goes_after_all_others_and_again_after_503(book: Book) -> None:
    answer_kill(book, "stray", "E")
    task = book.launch("t", b"", 0.0)
    book.accept(task, Accepted("e", 1, b"u" * 16, mesos_pb2.TASK_RUNNING), b"bytes", 0.0)
    plan = SendPlan()
    first = plan.next(book.to_send(), 0.0).update
    assert first is not None
    assert first.key == "1:t"
    plan.sending(first.uuid, 0.0)
    second = plan.next(book.to_send(), 0.0).update
    assert second is not None
    assert second.stray
    plan.sending(second.uuid, 0.0)
    plan.failed(second.uuid, 0.0)
    assert plan.next(book.to_send(), 0.0).update is None
    assert plan.next(book.to_send(), RETRY_PAUSE).update is second


def test_the_plan_forgets_what_went_with_a_terminal_acknowledgement() -> None:
    plan = SendPlan()
    for n in range(10):
        plan.sending(bytes([n]), 0.0)
    plan.keep({b"\x03"})
    assert plan._sent_at == {b"\x03": 0.0}
    assert plan.next([], ACK_TIMEOUT).update is None


@pytest.mark.parametrize(
    ("linger", "had_tasks", "shutdown", "subscribed", "expected"),
    [
        pytest.param(0.0, True, False, True, 0.0, id="goes with the last task"),
        pytest.param(5.0, True, False, True, 5.0, id="lingers after the last task"),
        pytest.param(5.0, True, False, False, 5.0, id="also without a stream"),
        pytest.param(0.0, False, False, True, None, id="waits for the first task for ever"),
        pytest.param(1.0, False, False, True, FIRST_TASK_SECS, id="the first task needs its time"),
        pytest.param(600.0, False, False, True, 600.0, id="lingers before the first task"),
        pytest.param(600.0, False, False, False, None, id="no task can come without a stream"),
        pytest.param(600.0, True, True, True, 0.0, id="shut down"),
        pytest.param(600.0, False, True, False, 0.0, id="shut down before the first task"),
    ],
)
def test_how_long_an_idle_executor_stays(
    linger: float, expected: float | None, *, had_tasks: bool, shutdown: bool, subscribed: bool
) -> None:
    assert linger_secs(linger, had_tasks=had_tasks, shutdown=shutdown, subscribed=subscribed) == expected
