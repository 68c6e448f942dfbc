"""Asking a task to end over HTTP, against real sockets."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from executor_shim.driver.clock import boottime
from executor_shim.driver.lifecycle import Lifecycles
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

TASK: Any = SimpleNamespace(key="1:t")


class Asking:
    """A driver's questions, and what the runner hears."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[runner_pb2.LifecycleDone] = asyncio.Queue()
        runner = SimpleNamespace(lifecycle_done=self.heard.put_nowait)
        hub: Any = SimpleNamespace(peers=SimpleNamespace(runner=runner))
        self.lifecycles = Lifecycles(hub)

    def ask(self, port: int, *, step: int = 0, path: str = "/quitquitquit", secs: float = 20.0) -> None:
        order = runner_pb2.Lifecycle(step=step, port=port, path=path, until=boottime() + secs)
        self.lifecycles.ask(TASK, order)

    async def done(self) -> tuple[int, bool, str]:
        done = await asyncio.wait_for(self.heard.get(), 20)
        return done.step, done.answered, done.detail


def asked(answer: Answer, test: Callable[[Asking, int], Awaitable[None]]) -> None:
    """Runs `test` with a task that answers so."""

    async def work() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            await test(Asking(), server.sockets[0].getsockname()[1])

    asyncio.run(work())


async def head(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


def saying(answer: bytes, requests: list[bytes] | None = None) -> Answer:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await head(reader)
        if requests is not None:
            requests.append(request)
        writer.write(answer)
        writer.close()

    return handle


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"HTTP/1.0 500 Oops\r\n\r\n", b"HTTP/1.1 404\r\n\r\n"],
)
def test_any_http_answer_counts_as_heard(answer: bytes) -> None:
    async def test(asking: Asking, port: int) -> None:
        asking.ask(port)
        step, answered, detail = await asking.done()
        assert (step, answered) == (0, True)
        assert detail == f"POST /quitquitquit: {answer.split()[1].decode()}"

    asked(saying(answer), test)


def test_it_is_a_post_without_a_body_and_its_path_adds_no_header() -> None:
    requests: list[bytes] = []

    async def test(asking: Asking, port: int) -> None:
        asking.ask(port, path="/quit?now=1\r\nX-Evil: yes")
        await asking.done()
        lines = requests[0].split(b"\r\n")
        assert lines[0] == b"POST /quit?now=1%0D%0AX-Evil:%20yes HTTP/1.1"
        assert f"Host: localhost:{port}".encode() in lines
        assert b"Content-Length: 0" in lines
        assert not any(line.startswith(b"X-Evil") for line in lines)

    asked(saying(b"HTTP/1.1 200 OK\r\n\r\n", requests), test)


def test_an_answer_is_told_before_it_has_ended() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await reader.read()

    async def test(asking: Asking, port: int) -> None:
        asking.ask(port)
        assert (await asking.done())[1]
        asking.lifecycles.cancel(TASK.key)

    asked(handle, test)


@pytest.mark.parametrize(
    ("answer", "detail"),
    [(b"SSH-2.0-x\r\n", "not an HTTP response"), (b"", "the connection was closed"), (b"x" * 200_000, "does not end")],
)
def test_what_is_not_http_is_no_answer(answer: bytes, detail: str) -> None:
    async def test(asking: Asking, port: int) -> None:
        asking.ask(port)
        step, answered, text = await asking.done()
        assert (step, answered) == (0, False)
        assert detail in text

    asked(saying(answer), test)


def test_nobody_there_is_told_at_once() -> None:
    async def work() -> None:
        server = await asyncio.start_server(saying(b""), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        asking = Asking()
        asking.ask(port, step=1)
        assert await asking.done() == (1, False, "POST /quitquitquit: Connection refused")

    asyncio.run(work())


def test_who_does_not_answer_is_given_up_at_the_time_given() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def test(asking: Asking, port: int) -> None:
        before = boottime()
        asking.ask(port, secs=0.2)
        assert await asking.done() == (0, False, "POST /quitquitquit: no answer in time")
        assert boottime() >= before + 0.2
        # The time may be over before the question gets there.
        asking.ask(port, secs=-5.0)
        assert (await asking.done())[1] is False

    asked(handle, test)


def test_a_later_step_replaces_the_earlier_one_which_is_never_told() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"/abort" in await head(reader):
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await reader.read()

    async def test(asking: Asking, port: int) -> None:
        asking.ask(port)
        asking.ask(port, step=1, path="/abort")
        assert (await asking.done())[:2] == (1, True)
        assert asking.heard.empty()
        asking.lifecycles.cancel(TASK.key)
        asking.lifecycles.cancel(TASK.key)

    asked(handle, test)
