"""Runner and driver find each other again: what each Hello and each absence does to real tasks."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from tests.integration.runner.driver_double import DriverDouble, attached
from tests.integration.runner.rig import RunnerUnderTest, process, watching
from trivet.link.v1 import link_pb2
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from pathlib import Path

CHAIN = {"processes": [process("a"), process("b")], "constraints": [{"order": ["a", "b"]}]}


def test_a_restart_within_the_lease_disturbs_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with RunnerUnderTest(str(tmp_path)) as runner:
            driver = DriverDouble(runner)
            await driver.attach()
            await driver.launch(CHAIN)
            await driver.runs("a")
            await driver.wait(lambda: "t1" in driver.states and driver.states["t1"].started)
            version = driver.states["t1"].version
            await runner.end(signal.SIGKILL)
            # `a` ends while nobody listens.
            driver.set_exit("a", code=0)
            await driver.detach()
            await runner.start()
            await driver.attach()
            await driver.runs("b")
            await driver.exits("b", code=0)
            state = await driver.phase(link_pb2.TASK_PHASE_SUCCESS)
            assert driver.starts() == [("a", 0), ("b", 0)]
            assert not state.rebuilt
            assert state.version > version
            assert await runner.end() == 0
            await driver.detach()

    asyncio.run(scenario())


def test_a_start_that_never_arrived_is_sent_again_with_the_same_run(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with RunnerUnderTest(str(tmp_path)) as runner:
            driver = DriverDouble(runner)
            await driver.attach()
            await driver.launch({"processes": [process("a")]})
            await driver.started("a")
            await runner.end(signal.SIGKILL)
            await driver.detach()
            await runner.start()
            await driver.attach()
            await driver.wait(lambda: driver.starts() == [("a", 0), ("a", 0)])
            await driver.runs("a")
            await driver.exits("a", code=0)
            await driver.phase(link_pb2.TASK_PHASE_SUCCESS)
            await runner.end()
            await driver.detach()

    asyncio.run(scenario())


def test_a_lost_journal_is_rebuilt_from_the_task_and_the_hands(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with attached(tmp_path) as (_, driver):
            await driver.detach()
            driver.launch_unheard(CHAIN)
            driver.set_exit("a", code=0)
            await driver.attach()
            await driver.started("b")
            assert driver.starts() == [("b", 0)]
            assert (await driver.phase(link_pb2.TASK_PHASE_ACTIVE)).rebuilt
            await driver.runs("b")
            await driver.exits("b", code=0)
            await driver.phase(link_pb2.TASK_PHASE_SUCCESS)

    asyncio.run(scenario())


def test_a_task_that_was_latched_meanwhile_is_never_started(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with attached(tmp_path) as (_, driver):
            await driver.detach()
            driver.launch_unheard(CHAIN)
            task = driver.hello_tasks()[0]
            task.latch.state = 9
            await driver.attach([task])
            await driver.phase(link_pb2.TASK_PHASE_LOST)
            assert driver.starts() == []

    asyncio.run(scenario())


def test_a_task_that_the_hello_does_not_list_is_lost(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with attached(tmp_path) as (runner, driver):
            await driver.launch(CHAIN)
            await driver.runs("a")
            await driver.detach()
            driver.tasks.clear()
            await driver.attach()
            channel, stub = runner.admin()
            task = (await stub.GetTask(runner_pb2.GetTaskRequest(task_id="t1"))).task
            assert task.state.phase == link_pb2.TASK_PHASE_LOST
            assert task.processes[0].state == runner_pb2.PROCESS_STATE_LOST
            await channel.close()

    asyncio.run(scenario())


def test_tasks_of_an_older_incarnation_are_lost_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with attached(tmp_path) as (runner, driver):
            await driver.launch(CHAIN)
            await driver.runs("a")
            await driver.detach()
            newer = DriverDouble(runner, incarnation="i2")
            await newer.attach()
            channel, stub = runner.admin()
            task = (await stub.GetTask(runner_pb2.GetTaskRequest(task_id="t1"))).task
            assert task.state.phase == link_pb2.TASK_PHASE_LOST
            assert "started anew" in task.state.message
            await channel.close()
            await newer.detach()

    asyncio.run(scenario())


def test_an_executor_that_stays_away_longer_than_the_lease_is_lost_and_its_processes_are_killed_later(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with attached(tmp_path, "--lease", "0.3") as (runner, driver):
            await driver.launch(CHAIN)
            await driver.runs("a")
            channel, stub = runner.admin()
            events = watching(stub, "t1")
            await driver.detach()
            async with asyncio.timeout(20):
                async for event in events:
                    if event.task.state.phase == link_pb2.TASK_PHASE_LOST:
                        break
            await channel.close()
            await driver.attach()
            await driver.wait(lambda: driver.terminates() == [0.0])
            await driver.phase(link_pb2.TASK_PHASE_LOST)
            assert driver.starts() == [("a", 0)]

    asyncio.run(scenario())
