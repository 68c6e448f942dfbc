"""The health service as a process, and a double of a driver that makes its probes for real."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.server
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any, Self

import grpc

from services.common.keys import Executor, TaskKey
from services.common.server import admin_options
from trivet.health.v1 import health_pb2 as pb
from trivet.health.v1 import health_pb2_grpc
from trivet.link.v1 import link_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

PATIENCE = 30.0
# A service that stops, or that has stopped while the Hello was being said.
GONE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
# What gRPC itself says of a write into a stream that is just ending.
BROKEN_WRITE = (grpc.StatusCode.INTERNAL, "Internal error from Core")


class HealthProcess:
    """`trivet-health` in directories of its own; can be killed and started again."""

    def __init__(self, directory: str, state_dir: str = "") -> None:
        self.directory = directory
        self.state_dir = state_dir or f"{directory}/state"
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        self.process = self.spawn()

    def spawn(self, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", "-m", "services.health", "--log-level", "warning", *options]
        return subprocess.Popen(
            [*command, "--run-dir", f"{self.directory}/run", "--state-dir", self.state_dir],
            env={**os.environ, "PYTHONPATH": os.getcwd()},
        )

    def stop(self, signum: int = signal.SIGKILL) -> int:
        assert self.process is not None
        self.process.send_signal(signum)
        return self.process.wait(PATIENCE)

    def take_over(self, signum: int = signal.SIGTERM) -> None:
        """The next version waits for this one to go."""
        following = self.spawn("--wait-for-lock", str(PATIENCE))
        self.stop(signum)
        self.process = following

    def restart(self, signum: int = signal.SIGKILL) -> None:
        self.stop(signum)
        self.start()

    def address(self, name: str) -> str:
        return f"unix:{self.directory}/run/{name}.sock"


class Web(http.server.BaseHTTPRequestHandler):
    """Answers what the test has set."""

    status, body = 200, b"ok"

    def do_GET(self) -> None:
        self.send_response(type(self).status)
        self.end_headers()
        self.wfile.write(type(self).body)

    def log_message(self, *_: object) -> None:
        pass


class DriverDouble:
    """One executor: tells what a driver tells, makes the probes for real, and redials when the service is gone."""

    def __init__(
        self,
        health: HealthProcess,
        executor_id: str = "e",
        generation: int = 1,
        prober: Callable[[pb.Probe], pb.ProbeResult] | None = None,
    ) -> None:
        """`prober`: answers instead of a real attempt."""
        self.health = health
        self.executor = Executor("f", executor_id, "i")
        self.generation = generation
        self.infos: dict[TaskKey, bytes] = {}
        self.states: dict[TaskKey, link_pb2.TaskState] = {}
        self.verdicts: list[link_pb2.Verdict] = []
        self.remembered: dict[TaskKey, link_pb2.Verdict] = {}
        self.hellos = 0
        # Tasks of which a verdict was heard since the last Hello.
        self.told: set[TaskKey] = set()
        self.probing = True
        self.prober = prober
        self.probes: list[pb.Probe] = []
        self.changed = asyncio.Condition()
        self.writing = asyncio.Lock()
        self.call: Any = None
        self.running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.running = asyncio.create_task(self.run())
        await self.until(lambda: self.hellos > 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.running is not None
        self.running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.running

    async def run(self) -> None:
        while True:
            async with grpc.aio.insecure_channel(self.health.address("health"), options=admin_options()) as channel:
                call = health_pb2_grpc.HealthCheckServiceStub(channel).Attach(wait_for_ready=True)
                try:
                    await self.attach(call)
                except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    status = await call.code(), await call.details()
                    raced = status[0] is grpc.StatusCode.UNKNOWN and "ExecuteBatchError" in (status[1] or "")
                    if status[0] not in GONE and status != BROKEN_WRITE and not raced:
                        raise AssertionError(status) from None

    async def attach(self, call: Any) -> None:
        hello = link_pb2.Hello(
            protocol=1,
            executor=self.executor.to_pb(),
            generation=self.generation,
            token=b"token",
            task_count=len(self.infos),
            sandbox="/sb",
            uid=os.getuid(),
        )
        await call.write(pb.AttachRequest(hello=hello))
        for key, info in self.infos.items():
            task = link_pb2.HelloTask(key=key.to_pb(), task_hash=hashlib.sha256(info).digest())
            if key in self.states:
                task.task_state.CopyFrom(self.states[key])
            if key in self.remembered:
                task.verdict.CopyFrom(self.remembered[key])
            await call.write(pb.AttachRequest(hello_task=task))
        await call.write(pb.AttachRequest(hello_end=link_pb2.HelloEnd()))
        self.call = call
        while (message := await call.read()) is not grpc.aio.EOF:
            await self.take(message)

    async def take(self, message: pb.AttachResponse) -> None:
        match message.WhichOneof("message"):
            case "hello_ack":
                self.hellos += 1
                self.told = set()
            case "need_task":
                key = TaskKey.of(message.need_task.key)
                await self.say(launch=link_pb2.Launch(key=key.to_pb(), info=self.infos[key]))
            case "verdict":
                self.verdicts.append(message.verdict)
                key = TaskKey.of(message.verdict.key)
                self.told.add(key)
                known = self.remembered.get(key)
                # The receiver keeps the newest.
                if known is None or message.verdict.version > known.version:
                    self.remembered[key] = message.verdict
            case "probe":
                self.probes.append(message.probe)
                if self.probing:
                    await self.answer(message.probe)
        async with self.changed:
            self.changed.notify_all()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for something that a message brings; an end of the double is an error here."""

        async def wait() -> None:
            async with self.changed:
                await self.changed.wait_for(condition)

        assert self.running is not None
        waiting = asyncio.create_task(wait())
        await asyncio.wait({waiting, self.running}, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            waiting.cancel()
            if self.running.done():
                self.running.result()
            raise AssertionError(f"did not happen in time; verdicts: {self.verdicts}")

    async def say(self, **message: Any) -> None:
        # gRPC takes one write at a time.
        async with self.writing:
            await self.call.write(pb.AttachRequest(**message))

    async def launch(self, info: bytes, task_id: str = "t") -> TaskKey:
        key = TaskKey(self.executor, task_id, 1)
        self.infos[key] = info
        await self.say(launch=link_pb2.Launch(key=key.to_pb(), info=info))
        await self.state(key, started=True)
        return key

    async def state(self, key: TaskKey, phase: link_pb2.TaskPhase = link_pb2.TASK_PHASE_ACTIVE, **fields: Any) -> None:
        self.states[key] = link_pb2.TaskState(key=key.to_pb(), phase=phase, **fields)
        await self.say(task_state=self.states[key])

    async def answer(self, probe: pb.Probe) -> None:
        if self.prober is not None:
            await self.say(result=self.prober(probe))
            return
        result = pb.ProbeResult(key=probe.key, id=probe.id, check=probe.check, outcome=pb.PROBE_OUTCOME_DONE)
        if probe.HasField("http"):
            url = f"http://127.0.0.1:{probe.http.port}{probe.http.path}"
            result.http_status, result.body = await asyncio.to_thread(get, url)
        else:
            process = await asyncio.create_subprocess_exec(*probe.command.argv, stdout=subprocess.PIPE)
            result.output, _ = await process.communicate()
            assert process.returncode is not None
            result.exit.code = process.returncode
        await self.say(result=result)


def get(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@contextlib.asynccontextmanager
async def operator(health: HealthProcess, socket: str = "health-admin") -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(health.address(socket), options=admin_options()) as channel:
        yield health_pb2_grpc.HealthCheckServiceStub(channel)


def run(body: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(asyncio.wait_for(body(), 4 * PATIENCE))
