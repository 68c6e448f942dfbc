"""Items 13, 18, 23: how long the driver waits for an agent that does not answer. Real sockets, virtual time."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from typing import TYPE_CHECKING

import pytest

from executor_shim.driver.agent.delivery import Delivery
from executor_shim.driver.agent.endpoint import Endpoint
from executor_shim.driver.environment import Environment
from executor_shim.driver.state.book import Book
from executor_shim.driver.state.entries import Accepted
from executor_shim.driver.state.memlog import MemoryLog
from executor_shim.driver.strays import answer_kill
from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2
from tests.integration.checklist import virtual_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from executor_shim.driver.state.entries import Update

RUNNING, FINISHED = mesos_pb2.TASK_RUNNING, mesos_pb2.TASK_FINISHED
ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture
def book() -> Iterator[Book]:
    fds = (os.memfd_create("a"), os.memfd_create("b"))
    found = Book(MemoryLog(fds))
    for task_id in ("t", "u"):
        found.launch(task_id, b"", 0.0)
    yield found
    for fd in fds:
        os.close(fd)


def accept(book: Book, task_id: str, state: mesos_pb2.TaskState) -> bytes:
    """A status of a task in the outbox; its uuid."""
    uuid = os.urandom(16)
    update = executor_pb2.Call.Update()
    update.status.task_id.value, update.status.state, update.status.uuid = task_id, state, uuid
    book.accept(book.tasks[f"1:{task_id}"], Accepted("e", 1, uuid, state), update.SerializeToString(), 0.0)
    return uuid


class Agent:
    """Takes UPDATE calls; answers with what it is told to, or not at all."""

    def __init__(self, answers: list[bytes], last: bytes = b"") -> None:
        self._answers, self._last = answers, last
        # (seconds, connection, body) of every call.
        self.calls: list[tuple[float, int, bytes]] = []

    async def serve(self, listener: socket.socket) -> None:
        loop, number = asyncio.get_running_loop(), 0
        began, tasks = loop.time(), list[asyncio.Task[None]]()
        try:
            while True:
                sock, _ = await loop.sock_accept(listener)
                number += 1
                tasks.append(asyncio.create_task(self._one(sock, number, began)))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, sock: socket.socket, number: int, began: float) -> None:
        loop, received = asyncio.get_running_loop(), b""
        with sock:
            sock.setblocking(False)
            while piece := await loop.sock_recv(sock, 1 << 16):
                received += piece
                while found := re.search(rb"Content-Length: (\d+)\r\n\r\n", received):
                    end = found.end() + int(found[1])
                    self.calls.append((loop.time() - began, number, received[found.end() : end]))
                    received = received[end:]
                    await loop.sock_sendall(sock, self._answers.pop(0) if self._answers else self._last)


def deliver(book: Book, agent: Agent, seconds: float) -> list[str]:
    """What the driver delivers in so many virtual seconds; returns what it has dropped."""
    dropped: list[str] = []

    def drop(update: Update, why: str) -> None:
        # As the hub does.
        book.drop_update(update.uuid)
        dropped.append(why)

    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            environment = Environment(
                {
                    "MESOS_FRAMEWORK_ID": "F",
                    "MESOS_EXECUTOR_ID": "E",
                    "MESOS_AGENT_ENDPOINT": f"127.0.0.1:{listener.getsockname()[1]}",
                }
            )
            delivery = Delivery(
                book,
                Endpoint(environment, ""),
                environment,
                on_dropped=drop,
                on_unsubscribed=lambda: None,
                clock=asyncio.get_running_loop().time,
            )
            delivery.subscribed()
            tasks = [asyncio.create_task(agent.serve(listener)), asyncio.create_task(delivery.run())]
            await asyncio.sleep(seconds)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    virtual_time.run(run())
    return dropped


def test_13_an_agent_that_says_nothing_is_given_10_s_each_time(book: Book) -> None:
    accept(book, "t", RUNNING)
    agent = Agent([])
    assert not deliver(book, agent, 60.0)
    assert 5 <= len(agent.calls) <= 6
    # Each on a connection of its own, as the last one may be dead; always the same bytes.
    assert [number for _, number, _ in agent.calls] == list(range(1, len(agent.calls) + 1))
    assert len({body for _, _, body in agent.calls}) == 1


def test_13_after_503_it_is_tried_again_ten_times_a_second_and_the_order_is_kept(book: Book) -> None:
    first, second = accept(book, "t", RUNNING), accept(book, "u", RUNNING)
    refusal = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
    agent = Agent([refusal] * 20, ACCEPTED)
    assert not deliver(book, agent, 5.0)
    uuids = [executor_pb2.Call.FromString(body).update.status.uuid for _, _, body in agent.calls]
    assert uuids == [first] * 21 + [second]
    assert 1.9 < agent.calls[-1][0] < 2.5


def test_23_without_acknowledgement_the_same_is_sent_every_10_s(book: Book) -> None:
    uuid = accept(book, "t", FINISHED)
    agent = Agent([], ACCEPTED)
    assert not deliver(book, agent, 35.0)
    assert [round(at) for at, _, _ in agent.calls] == [0, 10, 20, 30]
    assert len({body for _, _, body in agent.calls}) == 1
    assert uuid in book.outbox


def test_13_what_the_agent_refuses_for_good_does_not_hold_up_the_rest(book: Book) -> None:
    accept(book, "t", RUNNING)
    second = accept(book, "u", RUNNING)
    agent = Agent([b"HTTP/1.1 400 Bad Request\r\nContent-Length: 4\r\n\r\nno!\n"], ACCEPTED)
    assert deliver(book, agent, 5.0) == ["no!"]
    uuids = [executor_pb2.Call.FromString(body).update.status.uuid for _, _, body in agent.calls]
    assert uuids[1:] == [second]


def test_18_a_status_that_nobody_acknowledges_is_sent_until_the_agent_has_taken_it(book: Book) -> None:
    assert answer_kill(book, "stray", "E")
    agent = Agent([b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"], ACCEPTED)
    assert not deliver(book, agent, 60.0)
    assert len(agent.calls) == 2
    assert len({body for _, _, body in agent.calls}) == 1
    assert book.strays == {"stray": None}
