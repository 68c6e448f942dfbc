"""Orders that are not starts: lifecycle endpoints, a task that is given up, a damaged journal, the run limit."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from mesos.v1 import mesos_pb2
from tests.integration.runner.driver_double import DriverDouble, attached
from tests.integration.runner.rig import RunnerUnderTest, boottime, process
from trivet.link.v1 import link_pb2
from trivet.runner.v1 import runner_pb2

JOB = {"role": "r", "environment": "e", "name": "n", "task": {"processes": [process("a"), process("f", final=True)]}}


def job_info() -> bytes:
    info = mesos_pb2.TaskInfo(name="test", data=json.dumps(JOB).encode())
    info.task_id.value, info.agent_id.value = "t1", "agent"
    info.discovery.visibility = mesos_pb2.DiscoveryInfo.FRAMEWORK
    info.discovery.ports.ports.add(name="health", number=31999)
    return info.SerializeToString()


def orders(driver: DriverDouble) -> list[runner_pb2.Lifecycle]:
    return [m.lifecycle for m in driver.heard if m.HasField("lifecycle")]


def test_lifecycle_endpoints_are_asked_before_sigterm_and_go_on_after_a_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with RunnerUnderTest(str(tmp_path)) as runner:
            driver = DriverDouble(runner)
            await driver.attach()
            driver.launch_unheard({})
            driver.infos["t1"] = job_info()
            await driver.send(launch=link_pb2.Launch(key=driver.key(), info=driver.infos["t1"]))
            await driver.runs("a")
            begin = boottime()
            await driver.end(grace_secs=600.0)
            await driver.wait(lambda: len(orders(driver)) == 1)
            (first,) = orders(driver)
            assert (first.step, first.port, first.path) == (0, 31999, "/quitquitquit")
            assert begin + 5 <= first.until <= boottime() + 5
            await driver.send(lifecycle_done=runner_pb2.LifecycleDone(key=first.key, step=0, answered=False))
            await driver.wait(lambda: len(orders(driver)) == 2)
            second = orders(driver)[1]
            assert (second.step, second.path) == (1, "/abortabortabort")
            assert driver.terminates() == []
            await runner.end(signal.SIGKILL)
            await driver.detach()
            await runner.start()
            await driver.attach()
            await driver.wait(lambda: len(orders(driver)) == 3)
            assert orders(driver)[2] == second, "the same step with the same end"
            done = runner_pb2.LifecycleDone(key=first.key, step=1, answered=True, detail="HTTP 500")
            await driver.send(lifecycle_done=done)
            # It has heard, and ends: no signal is needed.
            await driver.exits("a", code=0)
            await driver.runs("f")
            await driver.exits("f", code=0)
            await driver.phase(link_pb2.TASK_PHASE_KILLED)
            assert driver.terminates() == []
            await driver.detach()
            assert await runner.end() == 0

    asyncio.run(scenario())


def test_a_task_that_is_given_up_is_killed_at_once_without_finalizers_and_lost(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with attached(tmp_path) as (runner, driver):
            await driver.launch({"processes": [process("a"), process("f", final=True)]})
            await driver.runs("a")
            channel, stub = runner.admin()
            answer = await stub.LoseTask(runner_pb2.LoseTaskRequest(task_id="t1"))
            assert answer.state.end_cause == link_pb2.END_CAUSE_LOSE
            await driver.wait(lambda: len(driver.terminates()) == 1)
            assert driver.terminates()[0] <= boottime()
            await driver.exits("a", signal=9)
            state = await driver.phase(link_pb2.TASK_PHASE_LOST)
            assert state.message == "Given up by an operator"
            assert driver.starts() == [("a", 0)]
            # Asked twice it is as good as asked once.
            again = await stub.LoseTask(runner_pb2.LoseTaskRequest(task_id="t1", executor_id="ex"))
            assert again.state == state
            for request, code in (
                (runner_pb2.LoseTaskRequest(task_id="t"), grpc.StatusCode.NOT_FOUND),
                (runner_pb2.LoseTaskRequest(task_id="t1", executor_id="other"), grpc.StatusCode.NOT_FOUND),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await stub.LoseTask(request)
                assert caught.value.code() == code
            await channel.close()

    asyncio.run(scenario())


def damage(state_dir: str) -> tuple[Path, int]:
    """Changes a byte in a record behind the first one, and not in the last; the file and its size."""
    (path,) = Path(state_dir, "tasks").glob("*.journal")
    data = bytearray(path.read_bytes())
    data[-200] ^= 0xFF
    path.write_bytes(data)
    return path, len(data)


def test_a_damaged_journal_is_listed_with_file_and_offset(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with RunnerUnderTest(str(tmp_path)) as runner:
            driver = DriverDouble(runner)
            await driver.attach()
            await driver.launch({"processes": [process("a")]})
            await driver.runs("a")
            await driver.wait(lambda: "t1" in driver.states and driver.states["t1"].started)
            await runner.end(signal.SIGKILL)
            await driver.detach()
            path, size = damage(runner.state_dir)
            await runner.start()
            channel, stub = runner.admin()
            (damaged,) = (await stub.ListTasks(runner_pb2.ListTasksRequest())).damaged
            assert damaged.path == f"{path}.damaged"
            assert f"damaged at offset {damaged.offset}" in damaged.error
            assert 0 < damaged.offset < size - 200
            assert damaged.key == driver.key()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.GetTask(runner_pb2.GetTaskRequest(task_id="t1"))
            assert caught.value.code() == grpc.StatusCode.DATA_LOSS
            assert str(damaged.offset) in (caught.value.details() or "")
            # Its executor is still there: the task goes on, and says so.
            await driver.attach()
            await driver.wait(lambda: driver.states["t1"].rebuilt)
            task = (await stub.GetTask(runner_pb2.GetTaskRequest(task_id="t1"))).task
            assert task.state.rebuilt
            assert any(f"offset {damaged.offset}" in text for text in task.warnings)
            await driver.exits("a", code=0)
            await driver.phase(link_pb2.TASK_PHASE_SUCCESS)
            await channel.close()
            await driver.detach()
            assert await runner.end() == 0

    asyncio.run(scenario())


def test_the_run_limit_is_a_setting(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with attached(tmp_path, "--run-limit", "2") as (_, driver):
            await driver.launch({"processes": [process("a", max_failures=0, min_duration=0)]})
            for run in range(2):
                await driver.runs("a", run)
                await driver.exits("a", run, code=1)
            state = await driver.phase(link_pb2.TASK_PHASE_FAILED)
            assert "given up after 2 runs" in state.message

    asyncio.run(scenario())


@pytest.mark.parametrize("option", ["--run-limit", "--keep-ended"])
@pytest.mark.parametrize("value", ["-1", "many", "1.5", ""])
def test_a_setting_that_is_no_count_is_refused(tmp_path: Path, option: str, value: str) -> None:
    argv = [sys.executable, "-m", "services.runner", "--run-dir", str(tmp_path), "--state-dir", str(tmp_path)]
    ended = subprocess.run([*argv, f"{option}={value}"], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert f"argument {option}: must be a whole number, 0 or more, is {value!r}" in ended.stderr


def test_sigterm_ends_the_runner_and_not_its_tasks(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with RunnerUnderTest(str(tmp_path)) as runner:
            driver = DriverDouble(runner)
            await driver.attach()
            await driver.launch({"processes": [process("a")]})
            await driver.runs("a")
            await driver.wait(lambda: "t1" in driver.states and driver.states["t1"].started)
            assert await runner.end(signal.SIGTERM) == 0
            assert driver.terminates() == []
            await driver.detach()
            await runner.start()
            await driver.attach()
            await driver.exits("a", code=0)
            await driver.phase(link_pb2.TASK_PHASE_SUCCESS)
            assert driver.starts() == [("a", 0)]
            await driver.detach()

    asyncio.run(scenario())
