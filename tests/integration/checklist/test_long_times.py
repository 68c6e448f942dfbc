"""Items 12 and 37: what takes long. The driver's own code with real sockets, in virtual time; and a short real run."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
from typing import TYPE_CHECKING

import pytest

from executor_shim.driver.agent.endpoint import Endpoint
from executor_shim.driver.agent.subscription import Subscription
from executor_shim.driver.environment import Environment
from executor_shim.driver.state.book import Book
from executor_shim.driver.state.memlog import MemoryLog
from mesos.v1.executor import executor_pb2
from tests.integration.checklist import virtual_time
from tests.integration.checklist.bench import states
from tests.integration.driver.agent_double import answer, framed, kill, subscribed
from tests.integration.faults.processes import wait_until

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Iterator

    from tests.integration.checklist.bench import Bench

    Serve = Callable[[socket.socket], Awaitable[None]]

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/x-protobuf\r\n\r\n"
HEARTBEAT = executor_pb2.Event(type="HEARTBEAT")
HALF_HOUR = 1800.0


class Seen:
    """Listens to a subscription."""

    def __init__(self) -> None:
        self.subscription: Subscription | None = None
        self.events: list[int] = []
        self.lost = 0
        self.gone: list[str] = []

    def on_event(self, record: bytes) -> None:
        event = executor_pb2.Event.FromString(record)
        self.events.append(event.type)
        if event.type == executor_pb2.Event.SUBSCRIBED and self.subscription is not None:
            self.subscription.confirm()

    def on_poison(self, record: bytes, attempts: int) -> None:
        raise AssertionError(record, attempts)

    def on_subscribed(self) -> None:
        pass

    def on_stream_lost(self) -> None:
        self.lost += 1

    def on_agent_gone(self, why: str) -> None:
        self.gone.append(why)


class Attempts(Endpoint):
    """Notes when each connection attempt begins."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment, "")
        self.at: list[float] = []

    async def connect_async(self) -> socket.socket:
        self.at.append(asyncio.get_running_loop().time())
        return await super().connect_async()


@pytest.fixture
def book() -> Iterator[Book]:
    """Of a driver that has been subscribed before."""
    fds = (os.memfd_create("a"), os.memfd_create("b"))
    found = Book(MemoryLog(fds))
    found.set_identity({"agent_id": "S"})
    yield found
    for fd in fds:
        os.close(fd)


async def run_outage(book: Book, seconds: float, serve: Serve | None) -> tuple[list[float], Seen]:
    """Attempts of a subscription that has just been lost. `serve`: what the agent does with each; None: not there."""
    loop = asyncio.get_running_loop()
    async with _listening(serve) as port:
        environ = {
            "MESOS_FRAMEWORK_ID": "F",
            "MESOS_EXECUTOR_ID": "E",
            "MESOS_AGENT_ENDPOINT": f"127.0.0.1:{port}",
            "MESOS_CHECKPOINT": "1",
            "MESOS_RECOVERY_TIMEOUT": "15mins",
            # The largest that an agent allows; its own window may still be 2 s after its next restart.
            "MESOS_SUBSCRIPTION_BACKOFF_MAX": "15secs",
        }
        environment = Environment(environ)
        endpoint, seen = Attempts(environment), Seen()
        kept: list[socket.socket] = []
        subscription = Subscription(book, endpoint, environment, seen, keep=kept.append, clock=loop.time)
        seen.subscription = subscription
        began = loop.time()
        subscription.start(None, adopted=False)
        await asyncio.sleep(seconds)
        subscription.close()
        return [at - began for at in endpoint.at], seen


class _listening:  # noqa: N801 - used like a function
    """An agent's port: closed, or each connection is given to `serve`."""

    def __init__(self, serve: Serve | None) -> None:
        self._serve = serve

    async def __aenter__(self) -> int:
        import socket

        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        port = int(self._listener.getsockname()[1])
        self._tasks: list[asyncio.Task[None]] = []
        if self._serve is None:
            self._listener.close()
        else:
            self._tasks.append(asyncio.create_task(self._accept(self._serve)))
        return port

    async def _accept(self, serve: Serve) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(self._listener)
            self._tasks.append(asyncio.create_task(self._one(sock, serve)))

    async def _one(self, sock: socket.socket, serve: Serve) -> None:
        with sock:
            sock.setblocking(False)
            request = b""
            while not re.search(rb"Content-Length: \d+\r\n\r\n", request):
                request += await asyncio.get_running_loop().sock_recv(sock, 4096)
            await serve(sock)

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._listener.close()


async def _refuse(sock: socket.socket) -> None:
    answer(sock, 503)


async def _hang_up(_sock: socket.socket) -> None:
    pass


@pytest.mark.parametrize("agent", [None, _refuse, _hang_up], ids=["refused", "503", "closed"])
def test_12_at_least_one_attempt_a_second_over_an_outage_of_30_s(book: Book, agent: Serve | None) -> None:
    at, seen = virtual_time.run(run_outage(book, 30.0, agent))
    gaps = [later - earlier for earlier, later in itertools.pairwise([0.0, *at, 30.0])]
    assert max(gaps) <= 1.0
    # Not all at once either.
    assert 30 <= len(at) < 300
    assert not seen.gone


def test_12_the_pace_does_not_slacken_over_14_minutes(book: Book) -> None:
    at, _ = virtual_time.run(run_outage(book, 14 * 60.0, _refuse))
    assert max(later - earlier for earlier, later in itertools.pairwise(at)) <= 1.0
    assert at[-1] > 14 * 60 - 1


def test_12_an_agent_that_says_nothing_is_asked_again_after_3_s(book: Book) -> None:
    async def silent(_sock: socket.socket) -> None:
        await asyncio.sleep(3600)

    at, _ = virtual_time.run(run_outage(book, 30.0, silent))
    assert max(later - earlier for earlier, later in itertools.pairwise([0.0, *at, 30.0])) <= 3.1


def test_12_a_killed_agent_is_asked_every_second_in_real_time(bench: Bench) -> None:
    sleeper = bench.sleeper()
    before = len(bench.tap.connected_at)
    bench.stack.parts["agent"].kill()
    wait_until(lambda: len(bench.tap.connected_at) >= before + 8, "attempts")
    at = bench.tap.connected_at[before:]
    # Half a second for a machine that is busy with other tests.
    assert max(later - earlier for earlier, later in itertools.pairwise(at)) < 1.5
    bench.stack.parts["agent"].start()
    bench.stack.ready("agent")
    assert sleeper.task.kill()
    assert sleeper.task.wait_end() == "TASK_KILLED"


def test_37_a_stream_of_nothing_but_heartbeats_is_kept(book: Book) -> None:
    async def beat(sock: socket.socket) -> None:
        sock.sendall(HEAD + framed(subscribed().SerializeToString()))
        for _ in range(48):
            await asyncio.sleep(HALF_HOUR)
            sock.sendall(framed(HEARTBEAT.SerializeToString()))
        sock.sendall(framed(kill("t").SerializeToString()))
        await asyncio.sleep(HALF_HOUR)

    at, seen = virtual_time.run(run_outage(book, 24.2 * 3600, beat))
    assert len(at) == 1
    types = executor_pb2.Event
    assert seen.events == [types.SUBSCRIBED, *[types.HEARTBEAT] * 48, types.KILL]
    # Once, before it began.
    assert seen.lost == 1


def test_37_heartbeats_are_not_answered(bench: Bench) -> None:
    sleeper = bench.sleeper()
    calls = len(bench.tap.calls)
    for _ in range(50):
        bench.tap.inject(HEARTBEAT)
    assert sleeper.task.kill()
    assert sleeper.task.wait_end() == "TASK_KILLED"
    assert states(bench.tap.updates) == ["TASK_STARTING", "TASK_RUNNING", "TASK_KILLED"]
    assert len(bench.tap.calls) == calls + 1
