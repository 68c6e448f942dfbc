"""Watches that survive restarts of runner and agent, played by doubles on real unix sockets."""

# ruff: noqa: N802, ARG002 - the contract names methods and arguments

from __future__ import annotations

import asyncio
import pathlib
import tempfile
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from mesos.v1 import mesos_pb2
from services.cli.clients import answered, open_channel
from services.cli.watches import follow_processes, follow_statuses
from trivet.agent.v1 import agent_pb2, agent_pb2_grpc
from trivet.link.v1 import link_pb2
from trivet.runner.v1 import runner_pb2, runner_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from services.cli.events import Event

SECS = 20.0
TASK = "task-1"


@pytest.fixture
def directory() -> Iterator[pathlib.Path]:
    # pytest's own directories are too deep for a socket.
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as path:
        yield pathlib.Path(path)


def run(process: str, number: int, state: str, *times: float) -> runner_pb2.ProcessRun:
    made = runner_pb2.ProcessRun(process=process, run=number, state=f"PROCESS_STATE_{state}")
    for name, at in zip(("waiting_at", "forked_at", "running_at", "ended_at"), times, strict=False):
        setattr(made, name, at)
    return made


class RunnerDouble(runner_pb2_grpc.RunnerServiceServicer):  # type: ignore[misc]
    """Plays one life of a runner: what GetTask knows, and the messages of the watch."""

    def __init__(self, runs: list[runner_pb2.ProcessRun], script: list[runner_pb2.WatchTasksResponse], *, hang: bool):
        self.told = asyncio.Event()
        self._runs = runs
        self._script = script
        self._hang = hang

    async def GetTask(self, request: Any, context: Any) -> runner_pb2.GetTaskResponse:
        return runner_pb2.GetTaskResponse(task=task("ACTIVE").task, runs=self._runs)

    async def WatchTasks(self, request: Any, context: Any) -> AsyncIterator[runner_pb2.WatchTasksResponse]:
        for message in self._script:
            yield message
        self.told.set()
        if self._hang:
            await asyncio.Event().wait()


class AgentDouble(agent_pb2_grpc.LocalAgentServiceServicer):  # type: ignore[misc]
    """Tells all statuses so far to each watcher."""

    def __init__(self, states: list[str], *, known: bool = True):
        self.told = asyncio.Event()
        self._states = states
        self._known = known

    async def WatchTask(self, request: Any, context: Any) -> AsyncIterator[agent_pb2.WatchTaskResponse]:
        if not self._known:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no task")
        for number, state in enumerate(self._states):
            status = mesos_pb2.TaskStatus(state=state, uuid=bytes([number]) * 16)
            status.task_id.value = TASK
            yield agent_pb2.WatchTaskResponse(status=status)
        self.told.set()
        await asyncio.Event().wait()


def task(phase: str) -> runner_pb2.WatchTasksResponse:
    state = link_pb2.TaskState(phase=f"TASK_PHASE_{phase}")
    state.key.task_id = TASK
    return runner_pb2.WatchTasksResponse(task=runner_pb2.Task(state=state))


def change(changed: runner_pb2.ProcessRun, task_id: str = TASK) -> runner_pb2.WatchTasksResponse:
    key = link_pb2.TaskKey(task_id=task_id)
    return runner_pb2.WatchTasksResponse(process=runner_pb2.ProcessChange(key=key, run=changed))


async def serve(directory: pathlib.Path, name: str, add: Callable[[grpc.aio.Server], None]) -> grpc.aio.Server:
    server = grpc.aio.server()
    add(server)
    server.add_insecure_port(f"unix:{directory}/{name}.sock")
    await server.start()
    return server


def states(events: list[Event]) -> list[tuple[str, int, str]]:
    return [(event["process"], event["run"], event["state"]) for event in events]


def test_a_runner_that_restarts_costs_no_transition_and_doubles_none(directory: pathlib.Path) -> None:
    lives = [
        RunnerDouble(
            [run("a", 0, "WAITING", 1)],
            [
                task("ACTIVE"),
                change(run("a", 0, "WAITING", 1)),
                change(run("x", 0, "RUNNING", 1, 1, 1), "another task"),
                change(run("a", 0, "FORKED", 1, 2)),
            ],
            hang=True,
        ),
        # While it was away, run 0 failed and run 1 began.
        RunnerDouble(
            [run("a", 0, "FAILED", 1, 2, 3, 4), run("a", 1, "RUNNING", 5, 6, 7), run("b", 0, "WAITING", 4.5)],
            [task("ACTIVE"), runner_pb2.WatchTasksResponse(snapshot=runner_pb2.Snapshot())],
            hang=True,
        ),
        RunnerDouble(
            [run("a", 0, "FAILED", 1, 2, 3, 4), run("a", 1, "SUCCESS", 5, 6, 7, 8), run("b", 0, "WAITING", 4.5)],
            [task("ACTIVE"), change(run("a", 1, "SUCCESS", 5, 6, 7, 8)), task("SUCCESS")],
            hang=True,
        ),
    ]

    async def play() -> list[Event]:
        shown: list[Event] = []
        async with open_channel(str(directory), "runner-admin") as channel:
            following = asyncio.create_task(follow_processes(channel, TASK, shown.append))
            for life in lives:
                server = await serve(
                    directory,
                    "runner-admin",
                    lambda s, life=life: runner_pb2_grpc.add_RunnerServiceServicer_to_server(life, s),  # type: ignore[misc]
                )
                await asyncio.wait_for(life.told.wait(), SECS)
                if life is lives[-1]:
                    await asyncio.wait_for(following, SECS)
                await server.stop(None)
        return shown

    assert states(asyncio.run(play())) == [
        ("a", 0, "WAITING"),
        ("a", 0, "FORKED"),
        ("a", 0, "RUNNING"),
        ("a", 0, "FAILED"),
        ("b", 0, "WAITING"),
        ("a", 1, "WAITING"),
        ("a", 1, "FORKED"),
        ("a", 1, "RUNNING"),
        ("a", 1, "SUCCESS"),
    ]


def test_an_agent_that_restarts_tells_all_again_and_each_status_is_shown_once(directory: pathlib.Path) -> None:
    lives = [AgentDouble(["TASK_STARTING"]), AgentDouble(["TASK_STARTING", "TASK_RUNNING", "TASK_FAILED"])]

    async def play() -> tuple[list[Event], mesos_pb2.TaskStatus]:
        shown: list[Event] = []
        async with open_channel(str(directory), "agent") as channel:
            following = asyncio.create_task(follow_statuses(channel, TASK, shown.append))
            for life in lives:
                server = await serve(
                    directory,
                    "agent",
                    lambda s, life=life: agent_pb2_grpc.add_LocalAgentServiceServicer_to_server(life, s),  # type: ignore[misc]
                )
                await asyncio.wait_for(life.told.wait(), SECS)
                if life is lives[-1]:
                    await asyncio.wait_for(following, SECS)
                await server.stop(None)
            return shown, following.result()

    shown, last = asyncio.run(play())
    assert [event["state"] for event in shown] == ["TASK_STARTING", "TASK_RUNNING", "TASK_FAILED"]
    assert last.state == mesos_pb2.TASK_FAILED


def test_a_task_that_the_agent_does_not_know_is_an_error_and_not_a_wait(directory: pathlib.Path) -> None:
    async def play() -> None:
        life = AgentDouble([], known=False)
        server = await serve(
            directory, "agent", lambda s: agent_pb2_grpc.add_LocalAgentServiceServicer_to_server(life, s)
        )
        async with open_channel(str(directory), "agent") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await asyncio.wait_for(follow_statuses(channel, TASK, print), SECS)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        await server.stop(None)

    asyncio.run(play())


def test_a_call_waits_for_a_service_that_is_not_there_yet(directory: pathlib.Path) -> None:
    async def play() -> int:
        async with open_channel(str(directory), "runner-admin") as channel:
            stub = runner_pb2_grpc.RunnerServiceStub(channel)
            request = runner_pb2.GetTaskRequest(task_id=TASK)
            calling = asyncio.create_task(answered(lambda: stub.GetTask(request, wait_for_ready=True, timeout=SECS)))
            # The first attempt has found no socket before there is one.
            state = channel.get_state(try_to_connect=True)
            while state is not grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                await channel.wait_for_state_change(state)
                state = channel.get_state()
            life = RunnerDouble([run("a", 0, "WAITING", 1)], [], hang=False)
            server = await serve(
                directory, "runner-admin", lambda s: runner_pb2_grpc.add_RunnerServiceServicer_to_server(life, s)
            )
            answer = await asyncio.wait_for(calling, SECS)
            await server.stop(None)
            return len(answer.runs)

    assert asyncio.run(play()) == 1
