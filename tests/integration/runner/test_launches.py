"""What is launched twice, again, by somebody else, or makes no sense."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.integration.runner.driver_double import DriverDouble, with_runner
from tests.integration.runner.rig import RunnerUnderTest, process
from trivet.link.v1 import link_pb2
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from pathlib import Path


def test_messages_about_other_executors_tasks_are_refused(tmp_path: Path) -> None:
    async def scenario(runner: RunnerUnderTest, driver: DriverDouble) -> None:
        await driver.launch({"processes": [process("a")]})
        await driver.runs("a")
        other = DriverDouble(runner)
        other.executor.executor_id = "other"
        await other.attach()
        request = link_pb2.EndRequest(cause=link_pb2.END_CAUSE_KILL, seq=1, grace_secs=0)
        await other.send(end=link_pb2.End(key=driver.key(), request=request))
        await other.launch({"processes": [process("z")]}, "z1")
        await other.started("z", task_id="z1")
        await other.detach()
        await driver.exits("a", code=0)
        await driver.phase(link_pb2.TASK_PHASE_SUCCESS)
        assert [error["msg"] for error in runner.errors()] == ["message refused"]

    with_runner(tmp_path, scenario)


def test_a_launch_told_twice_is_one_launch(tmp_path: Path) -> None:
    async def scenario(_: RunnerUnderTest, driver: DriverDouble) -> None:
        await driver.launch({"processes": [process("a")]})
        await driver.runs("a")
        await driver.launch({"processes": [process("a")]})
        driver.set_run("a", state=link_pb2.RUN_STATE_RUNNING)
        await driver.exits("a", code=0)
        await driver.phase(link_pb2.TASK_PHASE_SUCCESS)
        assert driver.starts() == [("a", 0)]

    with_runner(tmp_path, scenario)


def test_an_id_may_be_used_again_after_its_end(tmp_path: Path) -> None:
    async def scenario(runner: RunnerUnderTest, driver: DriverDouble) -> None:
        await driver.launch({"processes": [process("a")]})
        await driver.runs("a")
        await driver.exits("a", code=1)
        await driver.phase(link_pb2.TASK_PHASE_FAILED)
        await driver.send(forget=link_pb2.Forget(key=driver.key()))
        again = driver.key(launch=2)
        await driver.send(launch=link_pb2.Launch(key=again, info=driver.infos["t1"]))
        await driver.wait(lambda: len(driver.starts()) == 2)
        channel, stub = runner.admin()
        task = (await stub.GetTask(runner_pb2.GetTaskRequest(task_id="t1"))).task
        assert task.state.key.launch == 2
        await channel.close()

    with_runner(tmp_path, scenario)


def test_the_data_of_a_task_may_be_anything(tmp_path: Path) -> None:
    async def scenario(_: RunnerUnderTest, driver: DriverDouble) -> None:
        for number, info in enumerate((b"", b"\xff\xff\xff", b"\x00" * 1000)):
            task_id = f"bad{number}"
            await driver.send(launch=link_pb2.Launch(key=driver.key(task_id), info=info))
            state = await driver.phase(link_pb2.TASK_PHASE_FAILED, task_id)
            assert state.end_cause == link_pb2.END_CAUSE_INVALID
            assert state.message

    with_runner(tmp_path, scenario)
