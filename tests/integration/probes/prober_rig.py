"""The driver's prober in the test's own process, with real servers around it. Health is a queue."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from executor_shim.driver.probes.prober import Prober
from trivet.health.v1 import health_pb2 as pb
from trivet.link.v1 import link_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    Test = Callable[["Probing"], Awaitable[None]]

PATIENCE = 20.0
CERTIFICATES = f"{os.path.dirname(__file__)}/certificates"
DONE, TIMEOUT = pb.PROBE_OUTCOME_DONE, pb.PROBE_OUTCOME_TIMEOUT
NO_ANSWER, TRANSIENT = pb.PROBE_OUTCOME_NO_ANSWER, pb.PROBE_OUTCOME_TRANSIENT
SNOOZED = pb.PROBE_OUTCOME_SNOOZED


class Probing:
    """A prober, the orders that the coordinator gets of it, and the results that health gets."""

    def __init__(self, sandbox: str) -> None:
        self.results: asyncio.Queue[pb.ProbeResult] = asyncio.Queue()
        self.orders: list[dict[str, Any]] = []
        self.stopped: list[str] = []
        self.states: dict[str, link_pb2.TaskState] = {}
        health = SimpleNamespace(link=SimpleNamespace(send=lambda message: self.results.put_nowait(message.result)))
        runner = SimpleNamespace(state_of=lambda task: self.states.get(task.key, link_pb2.TaskState()))
        hub: Any = SimpleNamespace(
            environment=SimpleNamespace(sandbox=sandbox, path="/executors/path", inherited={"FROM": "executor"}),
            options=SimpleNamespace(generation=3, preserve_env=False),
            peers=SimpleNamespace(health=health, runner=runner),
            hands=SimpleNamespace(send=self.orders.append, stop_probe=self.stopped.append),
        )
        self.hub = hub
        self.prober = Prober(hub)
        self.count = 0

    def task(self, name: str = "t") -> Any:
        return SimpleNamespace(key=f"1:{name}", latch=None, ends=[])

    def start(self, task: Any = None, **fields: Any) -> int:
        """Begins a probe; returns its id."""
        self.count += 1
        probe = pb.Probe(id=self.count, **{"timeout_secs": PATIENCE, **fields})
        self.prober.start(task or self.task(), probe)
        return self.count

    async def result(self) -> pb.ProbeResult:
        return await asyncio.wait_for(self.results.get(), PATIENCE)

    async def ask(self, **fields: Any) -> pb.ProbeResult:
        """A probe and what came of it."""
        number = self.start(**fields)
        result = await self.result()
        assert result.id == number
        return result

    async def get(self, port: int, path: str = "/", timeout_secs: float = PATIENCE, **http: Any) -> pb.ProbeResult:
        http.setdefault("body_limit", 4096)
        return await self.ask(timeout_secs=timeout_secs, http=pb.HttpProbe(port=port, path=path, **http))


def probing(test: Test, sandbox: str = "/") -> None:
    """Runs a test; a probe that raises, or a socket that stays open, fails it."""
    trouble: list[dict[str, Any]] = []

    async def work() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: trouble.append(context))
        one = Probing(sandbox)
        await test(one)
        one.prober.drop_all()

    asyncio.run(asyncio.wait_for(work(), 4 * PATIENCE))
    assert trouble == []


@contextlib.asynccontextmanager
async def serving(answer: Answer, host: str = "127.0.0.1", certificate: str = "") -> AsyncIterator[int]:
    """A real server; its port. What the peer does to it is its own affair."""
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{CERTIFICATES}/{certificate}.pem")
    asked: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        me = asyncio.current_task()
        assert me is not None
        asked.add(me)
        try:
            await answer(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return
        finally:
            asked.discard(me)
            writer.close()

    server = await asyncio.start_server(handle, host, 0, ssl=context, backlog=1000)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for one in asked:
            one.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


async def head(reader: asyncio.StreamReader) -> bytes:
    """The request."""
    return await reader.readuntil(b"\r\n\r\n")


def saying(*pieces: bytes, heard: list[bytes] | None = None, stay: bool = False) -> Answer:
    """Answers with these bytes, piece by piece; `stay`: and does not close until the client does."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await head(reader)
        if heard is not None:
            heard.append(request)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        if stay:
            await reader.read()

    return answer


async def hang(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Takes everything, says nothing."""
    while await reader.read(1 << 16):
        pass


def open_sockets() -> int:
    """Descriptors of this process that are sockets."""
    count = 0
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            count += os.readlink(f"/proc/self/fd/{fd}").startswith("socket:")
    return count


async def settle(condition: Callable[[], bool]) -> None:
    """For what nobody announces: the other side of a connection has noticed."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.005)
