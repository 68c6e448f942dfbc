"""A double of the driver with its coordinator: speaks the real Attach stream over a real unix socket.

It starts no processes: its hands are a table that the test fills. The runner under test is a real process.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc

from services.runner.service import boot_id
from tests.integration.runner.rig import PATIENCE, RunnerUnderTest, task_info
from trivet.link.v1 import link_pb2
from trivet.runner.v1 import runner_pb2, runner_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
    from pathlib import Path


@dataclass
class HandsDouble:
    """What a coordinator would know of one task."""

    runs: dict[tuple[str, int], link_pb2.Run] = field(default_factory=dict)
    alive: int = 0

    def state(self) -> link_pb2.HandsState:
        return link_pb2.HandsState(runs=self.runs.values(), alive=self.alive)


class DriverDouble:
    """One driver: its Hello, its stream, and everything that the runner has said on it."""

    def __init__(self, runner: RunnerUnderTest, *, incarnation: str = "i1", uid: int = 1000) -> None:
        self.runner = runner
        self.executor = link_pb2.ExecutorKey(framework_id="fw", executor_id="ex", incarnation=incarnation)
        self.generation = 1
        self.uid = uid
        self.boot_id = boot_id()
        self.tasks: dict[str, HandsDouble] = {}
        self.infos: dict[str, bytes] = {}
        self.ends: dict[str, list[link_pb2.EndRequest]] = {}
        self.heard: list[runner_pb2.AttachResponse] = []
        self.states: dict[str, link_pb2.TaskState] = {}
        self._news = asyncio.Condition()
        self._channel: grpc.aio.Channel | None = None
        self._call: Any = None
        self._reader: asyncio.Task[None] | None = None
        # gRPC takes one write at a time.
        self._writing = asyncio.Lock()
        self.status: grpc.StatusCode | None = None

    def key(self, task_id: str = "t1", launch: int = 1) -> link_pb2.TaskKey:
        return link_pb2.TaskKey(executor=self.executor, task_id=task_id, launch=launch)

    def hello(self, tasks: Iterable[link_pb2.HelloTask]) -> list[runner_pb2.AttachRequest]:
        listed = list(tasks)
        hello = link_pb2.Hello(
            protocol=1,
            executor=self.executor,
            generation=self.generation,
            token=b"secret",
            boot_id=self.boot_id,
            task_count=len(listed),
            hostname="host1",
            sandbox="/mnt/mesos/sandbox",
            host_sandbox="/var/lib/mesos/runs/latest",
            uid=self.uid,
        )
        return [
            runner_pb2.AttachRequest(hello=hello),
            *(runner_pb2.AttachRequest(hello_task=task) for task in listed),
            runner_pb2.AttachRequest(hello_end=link_pb2.HelloEnd()),
        ]

    def hello_tasks(self) -> list[link_pb2.HelloTask]:
        return [
            link_pb2.HelloTask(key=self.key(task_id), hands=hands.state(), ends=self.ends.get(task_id, ()))
            for task_id, hands in self.tasks.items()
        ]

    async def attach(self, tasks: Iterable[link_pb2.HelloTask] | None = None) -> None:
        self._channel = grpc.aio.insecure_channel(f"unix:{self.runner.run_dir}/runner.sock")
        await asyncio.wait_for(self._channel.channel_ready(), PATIENCE)
        self._call = runner_pb2_grpc.RunnerServiceStub(self._channel).Attach()
        for message in self.hello(self.hello_tasks() if tasks is None else tasks):
            await self._call.write(message)
        before = len(self.heard)
        self._reader = asyncio.create_task(self._read(self._call))
        await self.wait(lambda: any(m.HasField("hello_ack") for m in self.heard[before:]))

    async def _read(self, call: Any) -> None:
        try:
            while (message := await call.read()) is not grpc.aio.EOF:
                async with self._news:
                    self.heard.append(message)
                    self._take(message)
                    self._news.notify_all()
                if message.HasField("need_task"):
                    task_id = message.need_task.key.task_id
                    # A runner that was killed meanwhile: the next read tells.
                    with contextlib.suppress(asyncio.InvalidStateError, grpc.aio.UsageError):
                        await self._write(self._launch_message(task_id))
        except grpc.aio.AioRpcError as error:
            self.status = error.code()
        except asyncio.CancelledError:
            # Our own `detach`.
            self.status = grpc.StatusCode.CANCELLED
        else:
            self.status = await call.code()
        async with self._news:
            self._news.notify_all()

    def _take(self, message: runner_pb2.AttachResponse) -> None:
        if message.HasField("task_state"):
            state = message.task_state
            known = self.states.get(state.key.task_id)
            assert known is None or state.version >= known.version, "a version went back"
            if known is not None and state.version == known.version:
                assert state == known, "one version, two contents"
            self.states[state.key.task_id] = state

    async def wait(self, condition: Callable[[], bool]) -> None:
        async with self._news:
            try:
                await asyncio.wait_for(self._news.wait_for(condition), PATIENCE)
            except TimeoutError:
                raise AssertionError(f"not within {PATIENCE} s; heard: {self.heard}; {self.runner.log}") from None

    async def detach(self) -> None:
        if self._call is not None:
            self._call.cancel()
            assert self._reader is not None
            await self._reader
        if self._channel is not None:
            await self._channel.close()

    def _launch_message(self, task_id: str) -> runner_pb2.AttachRequest:
        return runner_pb2.AttachRequest(launch=link_pb2.Launch(key=self.key(task_id), info=self.infos[task_id]))

    async def send(self, **message: Any) -> None:
        await self._write(runner_pb2.AttachRequest(**message))

    async def _write(self, message: runner_pb2.AttachRequest) -> None:
        async with self._writing:
            await self._call.write(message)

    async def launch(self, task: dict[str, Any], task_id: str = "t1") -> None:
        self.infos[task_id] = task_info(task, task_id)
        self.tasks[task_id] = HandsDouble()
        await self._write(self._launch_message(task_id))

    def launch_unheard(self, task: dict[str, Any], task_id: str = "t1") -> None:
        """The agent has launched a task, and no runner was there to hear of it."""
        self.infos[task_id] = task_info(task, task_id)
        self.tasks[task_id] = HandsDouble()

    # Hands

    def starts(self, task_id: str = "t1") -> list[tuple[str, int]]:
        return [
            (m.start.process, m.start.run) for m in self.heard if m.HasField("start") and m.start.key.task_id == task_id
        ]

    def terminates(self, task_id: str = "t1") -> list[float]:
        return [
            m.terminate.kill_at for m in self.heard if m.HasField("terminate") if m.terminate.key.task_id == task_id
        ]

    async def started(self, process: str, run: int = 0, task_id: str = "t1") -> None:
        await self.wait(lambda: (process, run) in self.starts(task_id))

    def set_run(self, process: str, run: int = 0, task_id: str = "t1", **fields: Any) -> link_pb2.Run:
        hands = self.tasks[task_id]
        before = hands.runs.get((process, run))
        record = link_pb2.Run(process=process, run=run, pid=100 + len(hands.runs), start_ticks=7, forked_at=time.time())
        if before is not None:
            record.CopyFrom(before)
        record.MergeFrom(link_pb2.Run(**fields))
        hands.runs[(process, run)] = record
        living = (link_pb2.RUN_STATE_FORKED, link_pb2.RUN_STATE_RUNNING)
        hands.alive = sum(r.state in living for r in hands.runs.values())
        return record

    async def tell(self, *runs: link_pb2.Run, task_id: str = "t1") -> None:
        state = link_pb2.HandsState(runs=runs, alive=self.tasks[task_id].alive)
        await self.send(hands=link_pb2.Hands(key=self.key(task_id), state=state))

    async def runs(self, process: str, run: int = 0, task_id: str = "t1") -> None:
        """The runner has asked for the run, and it is exec'ed."""
        await self.started(process, run, task_id)
        await self.tell(self.set_run(process, run, task_id, state=link_pb2.RUN_STATE_RUNNING), task_id=task_id)

    def set_exit(self, process: str, run: int = 0, task_id: str = "t1", **exit_: int) -> link_pb2.Run:
        return self.set_run(
            process,
            run,
            task_id,
            state=link_pb2.RUN_STATE_EXITED,
            exit=link_pb2.Exit(code=exit_.get("code"), signal=exit_.get("signal")),
            exited_at=time.time(),
        )

    async def exits(self, process: str, run: int = 0, task_id: str = "t1", **exit_: int) -> None:
        await self.tell(self.set_exit(process, run, task_id, **exit_), task_id=task_id)

    async def end(self, cause: link_pb2.EndCause = link_pb2.END_CAUSE_KILL, task_id: str = "t1", **fields: Any) -> None:
        request = link_pb2.EndRequest(cause=cause, seq=len(self.ends.get(task_id, ())) + 1, **fields)
        self.ends.setdefault(task_id, []).append(request)
        await self.send(end=link_pb2.End(key=self.key(task_id), request=request))

    async def phase(self, phase: int, task_id: str = "t1") -> link_pb2.TaskState:
        await self.wait(lambda: task_id in self.states and self.states[task_id].phase == phase)
        return self.states[task_id]


@asynccontextmanager
async def attached(
    directory: Path, *options: str, uid: int = 1000
) -> AsyncIterator[tuple[RunnerUnderTest, DriverDouble]]:
    async with RunnerUnderTest(str(directory), *options) as runner:
        driver = DriverDouble(runner, uid=uid)
        try:
            await driver.attach()
            yield runner, driver
        finally:
            await driver.detach()
        assert await runner.end() == 0


def with_runner(
    directory: Path, scenario: Callable[[RunnerUnderTest, DriverDouble], Awaitable[None]], *options: str
) -> RunnerUnderTest:
    runner = RunnerUnderTest(str(directory), *options)

    async def body() -> None:
        async with runner:
            driver = DriverDouble(runner)
            try:
                await driver.attach()
                await scenario(runner, driver)
            finally:
                await driver.detach()
            assert await runner.end() == 0

    asyncio.run(body())
    return runner
