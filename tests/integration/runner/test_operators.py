"""What operators see and do: the admin socket of a real runner, fed by a double of the driver."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import grpc
import pytest

from tests.integration.runner.driver_double import DriverDouble, attached
from tests.integration.runner.rig import process, watching
from trivet.link.v1 import link_pb2
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from pathlib import Path

CHAIN = {"processes": [process("a"), process("b")], "constraints": [{"order": ["a", "b"]}]}


def test_a_forgotten_task_is_still_shown_and_survives_a_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with attached(tmp_path) as (runner, driver):
            await driver.launch({"processes": [process("a")]})
            await driver.runs("a")
            await driver.exits("a", code=0)
            await driver.phase(link_pb2.TASK_PHASE_SUCCESS)
            await driver.send(forget=link_pb2.Forget(key=driver.key()))
            driver.tasks.clear()
            # Served in order: when the second task is known, the first is forgotten.
            await driver.launch({"processes": [process("b")]}, "t2")
            await driver.started("b", task_id="t2")
            await driver.detach()
            await runner.end(signal.SIGKILL)
            await runner.start()
            channel, stub = runner.admin()
            details = await stub.GetTask(runner_pb2.GetTaskRequest(task_id="t1"))
            assert details.task.state.phase == link_pb2.TASK_PHASE_SUCCESS
            assert [(r.process, r.state) for r in details.runs] == [("a", runner_pb2.PROCESS_STATE_SUCCESS)]
            listed = (await stub.ListTasks(runner_pb2.ListTasksRequest())).tasks
            assert sorted(task.state.key.task_id for task in listed) == ["t1", "t2"]
            active = (await stub.ListTasks(runner_pb2.ListTasksRequest(active_only=True))).tasks
            assert [task.state.key.task_id for task in active] == ["t2"]
            await channel.close()

    asyncio.run(scenario())


def test_an_operator_kills_a_task_and_may_ask_twice(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with attached(tmp_path) as (runner, driver):
            await driver.launch({"processes": [process("a")]})
            await driver.runs("a")
            # Else the report would change the state between the two answers.
            await driver.wait(lambda: "t1" in driver.states and driver.states["t1"].started)
            channel, stub = runner.admin()
            request = runner_pb2.KillTaskRequest(task_id="t1", grace_secs=5)
            first = await stub.KillTask(request)
            assert first.state.end_cause == link_pb2.END_CAUSE_OPERATOR
            assert await stub.KillTask(request) == first
            await driver.wait(lambda: len(driver.terminates()) == 1)
            await driver.exits("a", signal=15)
            state = await driver.phase(link_pb2.TASK_PHASE_KILLED)
            assert state.message == "Killed by an operator"
            assert (await stub.KillTask(request)).state.phase == link_pb2.TASK_PHASE_KILLED
            for bad, code in (
                (runner_pb2.KillTaskRequest(task_id="t"), grpc.StatusCode.NOT_FOUND),
                (runner_pb2.KillTaskRequest(task_id="t1", grace_secs=-1), grpc.StatusCode.INVALID_ARGUMENT),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await stub.KillTask(bad)
                assert caught.value.code() == code
            await channel.close()

    asyncio.run(scenario())


def test_a_watch_tells_what_is_and_then_every_transition_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with attached(tmp_path) as (runner, driver):
            await driver.launch(CHAIN)
            await driver.started("a")
            channel, stub = runner.admin()
            seen: list[tuple[str, int]] = []
            events = watching(stub, "t1")
            async with asyncio.timeout(20):
                async for event in events:
                    if event.HasField("task"):
                        shown = {run.process: run.state for run in event.task.processes}
                        if shown == {"a": runner_pb2.PROCESS_STATE_FORKED}:
                            assert event.task.attached
                    if event.HasField("snapshot"):
                        # The hands tell the exit without ever having told that the process ran.
                        await driver.exits("a", code=0)
                        await driver.runs("b")
                        await driver.exits("b", signal=9)
                        await driver.end()
                    if event.HasField("process"):
                        seen.append((event.process.run.process, event.process.run.state))
                    if event.task.state.phase == link_pb2.TASK_PHASE_KILLED:
                        break
            await channel.close()
            assert seen == [
                ("a", runner_pb2.PROCESS_STATE_RUNNING),
                ("a", runner_pb2.PROCESS_STATE_SUCCESS),
                ("b", runner_pb2.PROCESS_STATE_WAITING),
                ("b", runner_pb2.PROCESS_STATE_FORKED),
                ("b", runner_pb2.PROCESS_STATE_RUNNING),
                ("b", runner_pb2.PROCESS_STATE_KILLED),
                ("b", runner_pb2.PROCESS_STATE_WAITING),
            ]

    asyncio.run(scenario())


def test_tasks_are_listed_in_pages_without_gaps(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with attached(tmp_path) as (runner, driver):
            ids = [f"t{number}" for number in range(7)]
            for task_id in ids:
                await driver.launch({"processes": [process("a")]}, task_id)
                await driver.started("a", task_id=task_id)
            channel, stub = runner.admin()
            listed, token = [], ""
            while True:
                page = await stub.ListTasks(runner_pb2.ListTasksRequest(page_size=3, page_token=token))
                listed += [task.state.key.task_id for task in page.tasks]
                token = page.next_page_token
                if not token:
                    break
            assert sorted(listed) == ids
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.ListTasks(runner_pb2.ListTasksRequest(page_token="nonsense"))
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            await channel.close()

    asyncio.run(scenario())


def test_conditions_and_choices_have_their_status_codes(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with attached(tmp_path) as (runner, driver):
            other = DriverDouble(runner, incarnation="i2")
            other.executor.executor_id = "ex2"
            await other.attach()
            for each in (driver, other):
                await each.launch({"processes": [process("a")]})
                await each.runs("a")
            channel, stub = runner.admin()
            listed = await stub.ListTasks(runner_pb2.ListTasksRequest(task_id="t?", executor_id="ex2"))
            assert [task.state.key.executor.executor_id for task in listed.tasks] == ["ex2"]
            ambiguous, invalid = grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT
            both = runner_pb2.ListTasksRequest(active_only=True, ended_only=True)
            for call, request, code in (
                (stub.KillTask, runner_pb2.KillTaskRequest(task_id="t1"), ambiguous),
                (stub.GetTask, runner_pb2.GetTaskRequest(task_id="t1"), ambiguous),
                (stub.LoseTask, runner_pb2.LoseTaskRequest(task_id="t1"), ambiguous),
                (stub.ListTasks, both, invalid),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call(request)
                assert caught.value.code() == code
            killed = await stub.KillTask(runner_pb2.KillTaskRequest(task_id="t1", executor_id="ex2"))
            assert killed.state.key.executor.executor_id == "ex2"
            left = await stub.GetTask(runner_pb2.GetTaskRequest(task_id="t1", executor_id="ex"))
            assert not left.task.state.end_cause
            await channel.close()
            await other.detach()

    asyncio.run(scenario())


def test_a_mistaken_driver_cannot_fill_memory_with_logs_that_nobody_asked_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with attached(tmp_path) as (runner, driver):
            await driver.launch({"processes": [process("a")]})
            await driver.runs("a")
            channel, stub = runner.admin()
            call = stub.ReadLog(runner_pb2.ReadLogRequest(task_id="t1", process="a", follow=True))
            await driver.wait(lambda: any(message.HasField("open_log") for message in driver.heard))
            order = next(message.open_log for message in driver.heard if message.HasField("open_log"))
            assert order.path == "sandbox/.logs/a/0/stdout"
            # One was asked for. The id of a reader that never was is as good as silence.
            for number, piece_id in enumerate([order.id, order.id, order.id, 999]):
                piece = runner_pb2.ReadLogResponse(data=b"%d" % number)
                await driver.send(log_piece=runner_pb2.LogPiece(key=driver.key(), id=piece_id, piece=piece))
            assert (await call.read()).data == b"0"
            await driver.wait(lambda: any(message.HasField("next_piece") for message in driver.heard))
            call.cancel()
            await driver.wait(lambda: any(message.HasField("close_log") for message in driver.heard))
            await channel.close()

    asyncio.run(scenario())
