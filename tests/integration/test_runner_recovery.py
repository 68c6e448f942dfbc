"""The runner killed, cut short, damaged and out of disk: real process, real files, a double of the driver."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest

from services.common.journal import Journal
from services.runner.header import Header
from services.runner.header import decode as decode_header
from services.runner.header import encode as encode_header
from tests.integration.runner_double import DriverDouble, RunnerUnderTest, process
from trivet.link.v1 import link_pb2
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CHAIN = {
    "processes": [process("a", max_failures=2, min_duration=0), process("b"), process("f", final=True)],
    # The deadlines that are recorded must outlast all restarts of the test.
    "finalization_wait": 3600,
    "constraints": [{"order": ["a", "b"]}],
}


def journals(runner: RunnerUnderTest) -> list[Path]:
    return sorted(Path(runner.state_dir, "tasks").glob("*.journal"))


def append(path: str, data: bytes) -> None:
    with open(path, "ab") as file:
        file.write(data)


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


async def play(driver: DriverDouble) -> None:
    """Lets the hands carry out the rest of CHAIN, whatever is done of it already."""
    script: list[tuple[str, int, int]] = [("a", 0, 1), ("a", 1, 0), ("b", 0, 0), ("f", 0, 0)]
    for name, run, code in script:
        if (name, run) not in driver.tasks["t1"].runs:
            await driver.runs(name, run)
            await driver.exits(name, run, code=code)


def test_a_runner_killed_after_any_record_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    async def first(_: RunnerUnderTest, driver: DriverDouble) -> None:
        await driver.launch(CHAIN)
        await play(driver)
        await driver.phase(link_pb2.TASK_PHASE_SUCCESS)

    runner = with_runner(tmp_path / "whole", first)
    (path,) = journals(runner)
    journal, payloads = Journal.open(str(path))
    journal.close()
    assert len(payloads) > 20

    async def check(length: int, torn: bool) -> None:
        directory = tmp_path / f"cut{length}"
        cut = RunnerUnderTest(str(directory))
        tasks = os.path.join(cut.state_dir, "tasks")
        os.makedirs(tasks)
        part = Journal.create(os.path.join(tasks, path.name))
        part.append_all(payloads[:length])
        part.close()
        if torn:
            append(part.path, b"\x40\x00\x00\x00torn")
        async with cut:
            driver = DriverDouble(cut)
            driver.launch_unheard(CHAIN)
            # What the journal knows to have run has ended since.
            ran = [payload for payload in payloads[:length] if b'"state":3' in payload]
            for name, run, code in [("a", 0, 1), ("a", 1, 0), ("b", 0, 0), ("f", 0, 0)][: len(ran)]:
                driver.set_exit(name, run, code=code)
            known = set(driver.tasks["t1"].runs)
            await driver.attach()
            await play(driver)
            state = await driver.phase(link_pb2.TASK_PHASE_SUCCESS)
            assert not (set(driver.starts()) & known), "a run that had ended was started again"
            assert not state.rebuilt
            await driver.detach()
            await cut.end()
        assert cut.errors() == []
        shutil.rmtree(directory)

    async def all_cuts() -> None:
        for length in range(len(payloads)):
            await check(length, torn=length % 2 == 1)

    asyncio.run(all_cuts())


def test_a_damaged_journal_costs_its_own_task_only_and_that_one_is_rebuilt(tmp_path: Path) -> None:
    async def scenario(runner: RunnerUnderTest, driver: DriverDouble) -> None:
        for task_id in ("t1", "t2"):
            await driver.launch({"processes": [process("a")]}, task_id)
            await driver.runs("a", task_id=task_id)
        await driver.wait(lambda: len(driver.states) == 2 and all(state.started for state in driver.states.values()))
        await runner.end(signal.SIGKILL)
        await driver.detach()
        damaged = journals(runner)[0]
        data = bytearray(damaged.read_bytes())
        data[30] ^= 0xFF
        damaged.write_bytes(data)
        await runner.start()
        (error,) = runner.errors()
        assert error["msg"] == "journal put aside"
        assert "offset" in error["error"]
        assert damaged.name in error["error"]
        runner.log.clear()
        await driver.attach()
        for task_id in ("t1", "t2"):
            await driver.exits("a", task_id=task_id, code=0)
            await driver.phase(link_pb2.TASK_PHASE_SUCCESS, task_id)
        assert sorted(state.rebuilt for state in driver.states.values()) == [False, True]
        assert f"{damaged.name}.damaged" in os.listdir(damaged.parent)
        assert driver.starts("t1") == driver.starts("t2") == [("a", 0)]

    with_runner(tmp_path, scenario)


@pytest.mark.parametrize(
    "record", [b"{}", b"[]", b"nonsense", b'{"is":"run","at":[1,1],"process":"zz","run":0,"state":1}']
)
def test_a_journal_with_a_record_that_cannot_be_is_put_aside(tmp_path: Path, record: bytes) -> None:
    async def scenario(runner: RunnerUnderTest, driver: DriverDouble) -> None:
        await driver.launch({"processes": [process("a")]})
        await driver.runs("a")
        await driver.wait(lambda: "t1" in driver.states and driver.states["t1"].started)
        await runner.end(signal.SIGKILL)
        await driver.detach()
        journal, _ = Journal.open(str(journals(runner)[0]))
        journal.append(record)
        journal.close()
        await runner.start()
        assert [error["msg"] for error in runner.errors()] == ["journal put aside"]
        await driver.attach()
        await driver.exits("a", code=0)
        assert (await driver.phase(link_pb2.TASK_PHASE_SUCCESS)).rebuilt

    with_runner(tmp_path, scenario)


def test_tasks_of_another_boot_of_the_host_are_lost(tmp_path: Path) -> None:
    async def scenario(runner: RunnerUnderTest, driver: DriverDouble) -> None:
        await driver.launch({"processes": [process("a")]})
        await driver.runs("a")
        await driver.wait(lambda: "t1" in driver.states and driver.states["t1"].started)
        await runner.end(signal.SIGKILL)
        await driver.detach()
        path = journals(runner)[0]
        journal, payloads = Journal.open(str(path))
        head = decode_header(payloads[0])
        assert isinstance(head, Header)
        journal.rewrite([encode_header(head._replace(facts=head.facts._replace(boot_id="before"))), *payloads[1:]])
        journal.close()
        await runner.start()
        channel, stub = runner.admin()
        task = (await stub.GetTask(runner_pb2.GetTaskRequest(task_id="t1"))).task
        assert task.state.phase == link_pb2.TASK_PHASE_LOST
        assert "started anew" in task.state.message
        await channel.close()

    with_runner(tmp_path, scenario)


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


def test_a_frozen_runner_takes_up_where_it_was(tmp_path: Path) -> None:
    async def scenario(runner: RunnerUnderTest, driver: DriverDouble) -> None:
        await driver.launch({"processes": [process("a")]})
        await driver.runs("a")
        assert runner.process is not None
        os.kill(runner.process.pid, signal.SIGSTOP)
        await driver.exits("a", code=0)
        os.kill(runner.process.pid, signal.SIGCONT)
        await driver.phase(link_pb2.TASK_PHASE_SUCCESS)

    with_runner(tmp_path, scenario)


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


def test_too_few_descriptors_fail_the_start_and_cost_no_task(tmp_path: Path) -> None:
    tasks = 100

    async def first(runner: RunnerUnderTest, driver: DriverDouble) -> None:
        for number in range(tasks):
            await driver.launch({"processes": [process("a")]}, f"t{number}")
        for number in range(tasks):
            await driver.runs("a", task_id=f"t{number}")

    runner = with_runner(tmp_path, first)
    before = {path.name: path.read_bytes() for path in Path(runner.state_dir, "tasks").iterdir()}
    assert len(before) == tasks
    command = [sys.executable, "-m", "services.runner", "--run-dir", runner.run_dir, "--state-dir", runner.state_dir]
    limited = ["/bin/sh", "-c", 'ulimit -n 64; exec "$@"', "sh", *command]
    done = subprocess.run(limited, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    said = done.stderr.splitlines()[-1]
    assert re.fullmatch(
        rf"trivet-runner: {runner.state_dir}/tasks/[0-9a-f]+\.journal: cannot be read: Too many open files; "
        r"the hard limit of open files is 64, each live task needs one: raise it .*",
        said,
    )
    assert {path.name: path.read_bytes() for path in Path(runner.state_dir, "tasks").iterdir()} == before

    async def second(runner: RunnerUnderTest, _: DriverDouble) -> None:
        (replayed,) = [entry for entry in runner.log if entry["msg"] == "replayed"]
        assert (replayed["tasks"], replayed["damaged"]) == (tasks, 0)

    with_runner(tmp_path, second)
