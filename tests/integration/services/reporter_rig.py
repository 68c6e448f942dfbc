"""A reporter as a process, and a double of the driver on the other side of a real stream."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import grpc

from services.common.keys import TaskKey
from tests.unit.reporter.driver_model import EXECUTOR, DriverTask, hello
from trivet.link.v1 import link_pb2
from trivet.reporter.v1 import reporter_pb2, reporter_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

KEY = TaskKey(EXECUTOR, "task", 1)
GENEROUS = 30.0
Request = reporter_pb2.AttachRequest


class ReporterProcess:
    """A reporter in a directory; start, kill and start again."""

    def __init__(self, directory: Path) -> None:
        self.run_dir = directory / "run"
        self._state_dir = directory / "state"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it serves."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "services.reporter", "--run-dir", self.run_dir, "--state-dir", self._state_dir],
            stderr=subprocess.PIPE,
        )
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if json.loads(line)["msg"] == "ready":
                return
        raise AssertionError(f"the reporter ended with {self._process.wait()}")

    def send(self, signum: int) -> None:
        assert self._process is not None
        self._process.send_signal(signum)

    def end(self, signum: int = signal.SIGKILL) -> int:
        assert self._process is not None
        self._process.send_signal(signum)
        self._process.send_signal(signal.SIGCONT)
        status = self._process.wait(GENEROUS)
        assert self._process.stderr is not None
        self._process.stderr.close()
        return status

    @property
    def socket(self) -> str:
        return f"unix:{self.run_dir}/reporter.sock"

    @property
    def admin_socket(self) -> str:
        return f"unix:{self.run_dir}/reporter-admin.sock"


class DriverDouble:
    """Plays one executor's driver: keeps what a driver keeps (`DriverTask`) and says what a driver says."""

    def __init__(self, socket: str, *keys: TaskKey) -> None:
        self._socket = socket
        self.tasks = {key: DriverTask(key) for key in keys}
        self._launched: set[TaskKey] = set()
        self._generation = 0
        self._changed = asyncio.Condition()
        self._writing = asyncio.Lock()
        self._channel: grpc.aio.Channel | None = None
        self._reader: asyncio.Task[None] | None = None
        self.stream: Any = None
        self.answering = True
        self.proposals: list[reporter_pb2.Proposal] = []

    async def attach(self) -> None:
        """Dials and says Hello; returns after HelloAck."""
        # A channel of its own, so that no backoff of an earlier one delays the test.
        self._channel = grpc.aio.insecure_channel(
            self._socket, options=[("grpc.use_local_subchannel_pool", 1), ("grpc.initial_reconnect_backoff_ms", 100)]
        )
        self._generation += 1
        stub = reporter_pb2_grpc.ReporterServiceStub(self._channel)
        self.stream = stub.Attach(wait_for_ready=True)
        first = hello(tasks=len(self._launched))
        first.generation = self._generation
        await self.stream.write(Request(hello=first))
        for key in sorted(self._launched):
            await self.stream.write(Request(hello_task=self.tasks[key].hello()))
        await self.stream.write(Request(hello_end=link_pb2.HelloEnd()))
        ack = await asyncio.wait_for(self.stream.read(), GENEROUS)
        assert ack.WhichOneof("message") == "hello_ack"
        self._reader = asyncio.create_task(self._read(self.stream))

    async def detach(self) -> None:
        """Drops the link, with whatever is under way on it."""
        if self._reader is not None:
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError, grpc.RpcError):
                await self._reader
        if self._channel is not None:
            await self._channel.close()

    async def _read(self, stream: Any) -> None:
        while (message := await stream.read()) is not grpc.aio.EOF:
            proposal = message.proposal
            self.proposals.append(proposal)
            if self.answering:
                answer = self.tasks[TaskKey.of(proposal.key)].offer(proposal)
                await self.say(Request(answer=answer))
            async with self._changed:
                self._changed.notify_all()

    async def say(self, message: reporter_pb2.AttachRequest) -> None:
        # gRPC takes one write at a time.
        async with self._writing:
            await self.stream.write(message)

    async def launch(self, key: TaskKey = KEY) -> None:
        self._launched.add(key)
        await self.say(Request(launch=link_pb2.Launch(key=key.to_pb(), info=b"info")))

    async def tell_state(self, state: link_pb2.TaskState) -> None:
        """The runner has said this; kept for later Hellos, passed on when there is a link."""
        self.tasks[TaskKey.of(state.key)].state = state
        with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
            await self.say(Request(task_state=state))

    async def tell_verdict(self, verdict: link_pb2.Verdict) -> None:
        self.tasks[TaskKey.of(verdict.key)].verdict = verdict
        await self.say(Request(verdict=verdict))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for proposals until `condition` holds."""
        async with self._changed:
            await asyncio.wait_for(self._changed.wait_for(condition), GENEROUS)

    async def until_count(self, count: int) -> None:
        """Waits until the first task has so many accepted statuses."""
        await self.until(lambda: len(self.tasks[KEY].states) >= count)

    async def until_states(self, *states: str, key: TaskKey = KEY) -> None:
        """Waits until these, by their short names, are the accepted ones."""
        wanted = [f"TASK_{state}" for state in states]
        await self.until(lambda: len(self.tasks[key].states) >= len(wanted))
        assert self.tasks[key].states == wanted


@contextlib.asynccontextmanager
async def driving(reporter: ReporterProcess, *keys: TaskKey) -> AsyncIterator[DriverDouble]:
    driver = DriverDouble(reporter.socket, *(keys or (KEY,)))
    await driver.attach()
    try:
        yield driver
    finally:
        await driver.detach()


@contextlib.asynccontextmanager
async def operating(reporter: ReporterProcess) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(reporter.admin_socket) as channel:
        yield reporter_pb2_grpc.ReporterServiceStub(channel)


def task_state(version: int, phase: str = "ACTIVE", *, cause: str = "UNSPECIFIED", **more: Any) -> link_pb2.TaskState:
    return link_pb2.TaskState(
        key=KEY.to_pb(),
        version=version,
        phase=f"TASK_PHASE_{phase}",
        end_cause=f"END_CAUSE_{cause}",
        message="said",
        **more,
    )
