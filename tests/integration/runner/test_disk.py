"""A state directory without room: a small tmpfs that is really full, and a runner whose files may not grow."""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.integration.runner.driver_double import DriverDouble, with_runner
from tests.integration.runner.rig import PATIENCE, RunnerUnderTest, journals, process
from trivet.link.v1 import link_pb2
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


SIZE = 256 * 1024
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
MNT_DETACH = 2
CHAIN = {"processes": [process("a"), process("b")], "constraints": [{"order": ["a", "b"]}]}
_LIBC = ctypes.CDLL(None, use_errno=True)


@contextmanager
def small_disk(path: Path) -> Iterator[None]:
    """Mounts a tmpfs of `SIZE` bytes; skips the test where that is not allowed."""
    path.mkdir()
    if _LIBC.mount(b"none", os.fsencode(path), b"tmpfs", 0, b"size=%d" % SIZE):
        pytest.skip(f"mount: {os.strerror(ctypes.get_errno())}")
    try:
        yield
    finally:
        _LIBC.umount2(os.fsencode(path), MNT_DETACH)


def fill(path: Path) -> Path:
    """A file that takes all the room that is left."""
    ballast = path / "ballast"
    with open(ballast, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    return ballast


async def health(channel: grpc.aio.Channel, wanted: int, service: str = "") -> None:
    """Waits until the service says `wanted` of itself."""
    request = health_pb2.HealthCheckRequest(service=service)
    async with asyncio.timeout(PATIENCE):
        async for answer in health_pb2_grpc.HealthStub(channel).Watch(request):
            if answer.status == wanted:
                return


def test_a_full_disk_stops_starts_keeps_processes_says_so_and_heals(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with RunnerUnderTest(str(tmp_path)) as runner:
            driver = DriverDouble(runner)
            await driver.attach()
            await driver.launch(CHAIN)
            await driver.runs("a")
            await driver.wait(lambda: "t1" in driver.states and driver.states["t1"].started)
            channel, stub = runner.admin()
            await health(channel, SERVING)
            ballast = fill(tmp_path / "state")
            await driver.launch({"processes": [process("x")]}, "t2")
            await driver.phase(link_pb2.TASK_PHASE_ACTIVE, "t2")
            assert driver.starts("t2") == []
            await health(channel, NOT_SERVING)
            # It answers all the same.
            await health(channel, SERVING, "trivet.runner.v1.RunnerService")
            task = (await stub.GetTask(runner_pb2.GetTaskRequest(task_id="t2"))).task
            assert any("No space left on device" in text for text in task.warnings)
            assert driver.terminates() == []
            ballast.unlink()
            await driver.started("x", task_id="t2")
            await health(channel, SERVING)
            await driver.runs("x", task_id="t2")
            await driver.exits("x", task_id="t2", code=0)
            await driver.phase(link_pb2.TASK_PHASE_SUCCESS, "t2")
            await driver.exits("a", code=0)
            await driver.runs("b")
            await driver.exits("b", code=0)
            await driver.phase(link_pb2.TASK_PHASE_SUCCESS)
            task = (await stub.GetTask(runner_pb2.GetTaskRequest(task_id="t2"))).task
            assert list(task.warnings) == []
            await channel.close()
            await driver.detach()
            assert await runner.end() == 0

    with small_disk(tmp_path / "state"):
        asyncio.run(scenario())


def test_a_runner_that_starts_on_a_full_disk_takes_its_tasks_up_and_waits_for_room(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with RunnerUnderTest(str(tmp_path)) as runner:
            driver = DriverDouble(runner)
            await driver.attach()
            await driver.launch(CHAIN)
            await driver.runs("a")
            await driver.wait(lambda: "t1" in driver.states and driver.states["t1"].started)
            await runner.end(signal.SIGKILL)
            await driver.detach()
            driver.launch_unheard({"processes": [process("x")]}, "t2")
            ballast = fill(tmp_path / "state")
            await runner.start()
            await driver.attach()
            await driver.phase(link_pb2.TASK_PHASE_ACTIVE, "t2")
            # A kill is obeyed without a record.
            await driver.end()
            await driver.wait(lambda: len(driver.terminates()) == 1)
            await driver.exits("a", signal=15)
            await driver.phase(link_pb2.TASK_PHASE_KILLED)
            assert driver.starts("t2") == []
            ballast.unlink()
            await driver.started("x", task_id="t2")
            await driver.detach()
            assert await runner.end() == 0
            assert [entry for entry in runner.log if entry["msg"] == "journal put aside"] == []

    with small_disk(tmp_path / "state"):
        asyncio.run(scenario())


def test_with_a_full_disk_nothing_is_started_what_runs_goes_on_and_it_heals(tmp_path: Path) -> None:
    async def scenario(runner: RunnerUnderTest, driver: DriverDouble) -> None:
        await driver.launch({"processes": [process("a"), process("b")], "constraints": [{"order": ["a", "b"]}]})
        await driver.runs("a")
        await driver.wait(lambda: "t1" in driver.states and driver.states["t1"].started)
        assert runner.process is not None
        pid = runner.process.pid
        # No file may grow any more: the kernel refuses the write as it does on a full disk.
        size = journals(runner)[0].stat().st_size
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))
        await driver.exits("a", code=0)
        await driver.launch({"processes": [process("c")]}, "t2")
        await driver.phase(link_pb2.TASK_PHASE_ACTIVE, "t2")
        assert driver.starts("t1") == [("a", 0)]
        assert driver.starts("t2") == []
        channel, stub = runner.admin()
        task = (await stub.GetTask(runner_pb2.GetTaskRequest(task_id="t1"))).task
        assert any("nothing new is started" in text for text in task.warnings)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.KillTask(runner_pb2.KillTaskRequest(task_id="t1"))
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert max(path.stat().st_size for path in journals(runner)) == size
        # Room again: it goes on by itself.
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await driver.runs("b")
        await driver.exits("b", code=0)
        await driver.phase(link_pb2.TASK_PHASE_SUCCESS)
        await driver.runs("c", task_id="t2")
        await driver.exits("c", task_id="t2", code=0)
        await driver.phase(link_pb2.TASK_PHASE_SUCCESS, "t2")
        task = (await stub.GetTask(runner_pb2.GetTaskRequest(task_id="t1"))).task
        assert list(task.warnings) == []
        await channel.close()
        messages = [entry["msg"] for entry in runner.log if entry["msg"].startswith("journal takes")]
        assert sorted(set(messages)) == [
            "journal takes no records: nothing new is started until it does",
            "journal takes records again",
        ]
        # Everything is in the journal: after a kill -9 nothing has to be told again.
        await runner.end(signal.SIGKILL)
        await driver.detach()
        await runner.start()
        channel, stub = runner.admin()
        details = await stub.GetTask(runner_pb2.GetTaskRequest(task_id="t1"))
        assert [run.state for run in details.runs] == [runner_pb2.PROCESS_STATE_SUCCESS] * 2
        await channel.close()

    with_runner(tmp_path, scenario)


def test_a_kill_is_obeyed_with_a_full_disk(tmp_path: Path) -> None:
    async def scenario(runner: RunnerUnderTest, driver: DriverDouble) -> None:
        await driver.launch({"processes": [process("a")]})
        await driver.runs("a")
        await driver.wait(lambda: "t1" in driver.states and driver.states["t1"].started)
        assert runner.process is not None
        size = journals(runner)[0].stat().st_size
        resource.prlimit(runner.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        await driver.end()
        await driver.wait(lambda: len(driver.terminates()) == 1)
        await driver.exits("a", signal=15)
        await driver.phase(link_pb2.TASK_PHASE_KILLED)

    with_runner(tmp_path, scenario)
