"""The reporter as a process on unix sockets, with a double of the driver on the other side of a real stream."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from mesos.v1 import mesos_pb2
from services.common.keys import TaskKey
from tests.unit.reporter.driver_model import EXECUTOR, DriverTask, hello
from trivet.link.v1 import link_pb2
from trivet.reporter.v1 import reporter_pb2, reporter_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
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


@pytest.fixture
def reporter(tmp_path: Path) -> Iterator[ReporterProcess]:
    made = ReporterProcess(tmp_path)
    made.start()
    yield made
    made.end()


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


def task_state(version: int, phase: str = "ACTIVE", *, cause: str = "UNSPECIFIED", **more: bool) -> link_pb2.TaskState:
    return link_pb2.TaskState(
        key=KEY.to_pb(),
        version=version,
        phase=f"TASK_PHASE_{phase}",
        end_cause=f"END_CAUSE_{cause}",
        message="said",
        **more,
    )


def test_a_task_is_followed_to_its_end_and_operators_see_it(reporter: ReporterProcess) -> None:
    async def life() -> None:
        async with driving(reporter) as driver, operating(reporter) as operator:
            await driver.launch()
            await driver.tell_state(task_state(1))
            await driver.tell_state(task_state(2, started=True))
            await driver.tell_state(task_state(3, "SUCCESS", cause="PLAN", started=True))
            await driver.until_states("STARTING", "RUNNING", "FINISHED")
            for proposal in driver.proposals:
                acknowledged = reporter_pb2.Acknowledged(key=proposal.key, ref=proposal.ref, uuid=b"u" * 16)
                await driver.say(Request(acknowledged=acknowledged))
            watch = operator.WatchTaskStatuses(reporter_pb2.WatchTaskStatusesRequest(task_id="task"))
            async for seen in watch:
                # The watch tells every change: no need to ask again and again.
                if all(e.delivery == reporter_pb2.DELIVERY_ACKNOWLEDGED for e in seen.task.statuses):
                    break
            watch.cancel()
            await driver.say(Request(forget=link_pb2.Forget(key=KEY.to_pb())))
            answer = await operator.GetTaskStatus(reporter_pb2.GetTaskStatusRequest(task_id="task"))
            assert [mesos_pb2.TaskState.Name(e.status.state) for e in answer.task.statuses] == driver.tasks[KEY].states
            assert len((await operator.ListTaskStatuses(reporter_pb2.ListTaskStatusesRequest())).tasks) == 1

    asyncio.run(life())


STAGES: list[Callable[[DriverDouble], Any]] = [
    lambda driver: driver.launch(),
    lambda driver: driver.tell_state(task_state(1, gated=True, health_checked=True)),
    lambda driver: driver.tell_state(task_state(2, gated=True, health_checked=True, started=True)),
    lambda driver: driver.tell_verdict(link_pb2.Verdict(key=KEY.to_pb(), version=1, passed=True, healthy=True)),
    lambda driver: driver.tell_state(
        task_state(3, "CLEANING", cause="KILL", gated=True, health_checked=True, started=True)
    ),
    lambda driver: driver.tell_state(
        task_state(4, "KILLED", cause="KILL", gated=True, health_checked=True, started=True)
    ),
]


@pytest.mark.parametrize("answering", [True, False], ids=["answered", "unanswered"])
@pytest.mark.parametrize("stage", range(len(STAGES)))
def test_kill_9_at_each_stage_loses_and_doubles_nothing(reporter: ReporterProcess, stage: int, answering: bool) -> None:
    async def life() -> None:
        async with driving(reporter) as driver:
            for number, act in enumerate(STAGES):
                # At the stage of the crash the statuses reach the driver, or not even that.
                driver.answering = answering or number != stage
                await act(driver)
                if number == stage:
                    reporter.end()
                    await driver.detach()
                    reporter.start()
                    driver.answering = True
                    await driver.attach()
                await driver.until_count((0, 1, 1, 2, 3, 4)[number])
            await driver.until_states("STARTING", "RUNNING", "KILLING", "KILLED")

    asyncio.run(life())


def test_a_reporter_that_died_with_its_state_repeats_nothing(reporter: ReporterProcess, tmp_path: Path) -> None:
    async def life() -> None:
        async with driving(reporter) as driver:
            await driver.launch()
            await driver.tell_state(task_state(1, started=True))
            await driver.until_states("STARTING", "RUNNING")
            reporter.end()
            await driver.detach()
            for name in os.listdir(tmp_path / "state" / "tasks"):
                (tmp_path / "state" / "tasks" / name).unlink()
            reporter.start()
            await driver.attach()
            await driver.tell_state(task_state(2, "SUCCESS", cause="PLAN", started=True))
            await driver.until_states("STARTING", "RUNNING", "FINISHED")

    asyncio.run(life())


def test_a_frozen_reporter_goes_on_with_the_next_driver_when_it_thaws(reporter: ReporterProcess) -> None:
    async def life() -> None:
        async with driving(reporter) as driver:
            await driver.launch()
            await driver.tell_state(task_state(1, started=True))
            await driver.until_states("STARTING", "RUNNING")
            reporter.send(signal.SIGSTOP)
            await driver.tell_state(task_state(2, "SUCCESS", cause="PLAN", started=True))
            await driver.detach()
            reporter.send(signal.SIGCONT)
            await driver.attach()
            await driver.until_states("STARTING", "RUNNING", "FINISHED")

    asyncio.run(life())


def test_nothing_is_proposed_for_a_task_that_the_driver_has_ended_itself(reporter: ReporterProcess) -> None:
    other = KEY._replace(task_id="other")

    async def life() -> None:
        async with driving(reporter, KEY, other) as driver:
            await driver.launch()
            await driver.launch(other)
            latch = link_pb2.Latch(state=mesos_pb2.TASK_KILLED, uuid=b"u" * 16, origin="LATCH_ORIGIN_DRIVER")
            await driver.say(Request(latched=link_pb2.Latched(key=KEY.to_pb(), latch=latch)))
            await driver.tell_state(task_state(1, "KILLED", cause="KILL"))
            ended = task_state(1, "KILLED", cause="KILL")
            ended.key.CopyFrom(other.to_pb())
            await driver.tell_state(ended)
            # The stream keeps its order: what was to come for the first task would have come before.
            await driver.until_states("STARTING", "KILLED", key=other)
            assert driver.tasks[KEY].states == []

    asyncio.run(life())


def test_a_health_flap_is_told_a_second_later_by_its_newest_value(reporter: ReporterProcess) -> None:
    async def life() -> None:
        async with driving(reporter) as driver:
            await driver.launch()
            await driver.tell_state(task_state(1, gated=True, health_checked=True, started=True))
            for version, healthy in enumerate([True, False, True, False], 1):
                verdict = link_pb2.Verdict(key=KEY.to_pb(), version=version, passed=True, healthy=healthy)
                await driver.tell_verdict(verdict)
            await driver.until_states("STARTING", "RUNNING", "RUNNING")
            _, first, second = driver.tasks[KEY].accepted
            assert (first.healthy, first.HasField("reason")) == (True, False)
            assert (second.healthy, second.reason) == (False, 29)

    asyncio.run(life())


def test_many_tasks_of_one_executor_keep_their_order(reporter: ReporterProcess) -> None:
    keys = [KEY._replace(task_id=f"task-{number}") for number in range(200)]

    async def life() -> None:
        async with driving(reporter, *keys) as driver:
            for key in keys:
                await driver.launch(key)
            for version, (phase, cause) in enumerate([("ACTIVE", "UNSPECIFIED"), ("FAILED", "PLAN")], 1):
                for key in keys:
                    state = task_state(version, phase, cause=cause, started=True)
                    state.key.CopyFrom(key.to_pb())
                    await driver.tell_state(state)
            for key in keys:
                await driver.until_states("STARTING", "RUNNING", "FAILED", key=key)

    asyncio.run(life())


@pytest.mark.parametrize(
    ("socket", "call", "code"),
    [
        ("admin_socket", "get unknown", grpc.StatusCode.NOT_FOUND),
        ("admin_socket", "get", grpc.StatusCode.INVALID_ARGUMENT),
        ("socket", "get", grpc.StatusCode.UNIMPLEMENTED),
        ("socket", "list", grpc.StatusCode.UNIMPLEMENTED),
        ("socket", "watch", grpc.StatusCode.UNIMPLEMENTED),
        ("admin_socket", "attach", grpc.StatusCode.UNIMPLEMENTED),
    ],
)
def test_calls_on_the_wrong_socket_and_for_unknown_tasks_are_refused(
    reporter: ReporterProcess, socket: str, call: str, code: grpc.StatusCode
) -> None:
    async def ask() -> None:
        async with grpc.aio.insecure_channel(getattr(reporter, socket)) as channel:
            stub = reporter_pb2_grpc.ReporterServiceStub(channel)
            match call:
                case "get unknown":
                    await stub.GetTaskStatus(reporter_pb2.GetTaskStatusRequest(task_id="nobody"), timeout=GENEROUS)
                case "get":
                    await stub.GetTaskStatus(reporter_pb2.GetTaskStatusRequest(), timeout=GENEROUS)
                case "list":
                    await stub.ListTaskStatuses(reporter_pb2.ListTaskStatusesRequest(), timeout=GENEROUS)
                case "watch":
                    await stub.WatchTaskStatuses(reporter_pb2.WatchTaskStatusesRequest(), timeout=GENEROUS).read()
                case "attach":
                    await stub.Attach(timeout=GENEROUS).read()

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        asyncio.run(ask())
    assert caught.value.code() is code


def test_sigterm_ends_it_in_order_and_the_next_one_goes_on(reporter: ReporterProcess) -> None:
    async def life() -> None:
        async with driving(reporter) as driver:
            await driver.launch()
            await driver.tell_state(task_state(1, started=True))
            await driver.until_states("STARTING", "RUNNING")
            assert await asyncio.to_thread(reporter.end, signal.SIGTERM) == 0
            await driver.detach()
            reporter.start()
            await driver.attach()
            await driver.tell_state(task_state(2, "FAILED", cause="PLAN", started=True))
            await driver.until_states("STARTING", "RUNNING", "FAILED")

    asyncio.run(life())
