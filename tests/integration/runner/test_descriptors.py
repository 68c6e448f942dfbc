"""A runner with few descriptors: more live tasks than it can open files, and fewer than it needs itself."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.integration.runner.driver_double import DriverDouble
from tests.integration.runner.rig import RunnerUnderTest, process
from trivet.link.v1 import link_pb2
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from pathlib import Path

TASKS = 150


def limited(count: int) -> tuple[str, ...]:
    return ("/bin/sh", "-c", f'ulimit -n {count}; exec "$@"', "sh")


def open_journals(runner: RunnerUnderTest) -> int:
    assert runner.process is not None
    directory = f"/proc/{runner.process.pid}/fd"
    found = 0
    for name in os.listdir(directory):
        try:
            found += os.path.dirname(os.readlink(f"{directory}/{name}")) == f"{runner.state_dir}/tasks"
        except FileNotFoundError:
            # Closed since.
            continue
    return found


def test_more_live_tasks_than_descriptors_are_served_killed_and_recovered(tmp_path: Path) -> None:
    async def scenario() -> None:
        runner = RunnerUnderTest(str(tmp_path))
        runner.launcher = limited(64)
        async with runner:
            driver = DriverDouble(runner)
            await driver.attach()
            names = [f"t{number}" for number in range(TASKS)]
            for name in names:
                await driver.launch({"processes": [process("a"), process("b")]}, name)
            for name in names:
                await driver.runs("a", task_id=name)
                await driver.runs("b", task_id=name)
            # Half of them, and the one that is being flushed.
            assert 0 < open_journals(runner) <= 32 + 1
            # What is written now goes to files of which most are closed.
            for name in names:
                await driver.exits("a", code=0, task_id=name)
            channel, stub = runner.admin()
            async with channel:
                listed = (await stub.ListTasks(runner_pb2.ListTasksRequest(active_only=True))).tasks
                assert len(listed) == TASKS
                assert [text for task in listed for text in task.warnings] == []
            assert await runner.end(signal.SIGKILL) == -signal.SIGKILL
            await driver.detach()
            await runner.start()
            assert runner.errors() == []
            # Half of them, and the one that is being flushed.
            assert 0 < open_journals(runner) <= 32 + 1
            driver.generation += 1
            before = len(driver.starts(names[0]))
            await driver.attach()
            for name in names:
                await driver.exits("b", code=0, task_id=name)
                await driver.phase(link_pb2.TASK_PHASE_SUCCESS, task_id=name)
            assert len(driver.starts(names[0])) == before, "nothing is started twice"
            assert runner.errors() == []
            await driver.detach()
            assert await runner.end() == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("count", [8, 63])
def test_a_limit_below_what_the_runner_needs_itself_is_refused_by_name(tmp_path: Path, count: int) -> None:
    command = [sys.executable, "-m", "services.runner", "--run-dir", f"{tmp_path}/r", "--state-dir", f"{tmp_path}/s"]
    done = subprocess.run([*limited(count), *command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        f"trivet-runner: the hard limit of open files is {count}, at least 64 are needed: raise it "
        "(ulimit -Hn, LimitNOFILE=)\n"
    )
