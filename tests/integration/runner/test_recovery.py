"""The runner killed, cut short and damaged: real process, real files, a double of the driver."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from typing import TYPE_CHECKING

import pytest

from services.common.journal import Journal
from services.runner import records
from services.runner.header import Header
from services.runner.header import decode as decode_header
from services.runner.header import encode as encode_header
from services.runner.processes import ProcessState
from tests.integration.runner.driver_double import DriverDouble, with_runner
from tests.integration.runner.rig import RunnerUnderTest, journals, process
from trivet.link.v1 import link_pb2
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from pathlib import Path

CHAIN = {
    "processes": [process("a", max_failures=2, min_duration=0), process("b"), process("f", final=True)],
    "constraints": [{"order": ["a", "b"]}],
    # The journal of one run is replayed for as long as it takes to kill a runner after each of its records.
    "finalization_wait": 3600,
}


# Of CHAIN: process, run, exit code.
SCRIPT = [("a", 0, 1), ("a", 1, 0), ("b", 0, 0), ("f", 0, 0)]


def append(path: str, data: bytes) -> None:
    with open(path, "ab") as file:
        file.write(data)


async def play(driver: DriverDouble) -> None:
    """Lets the hands carry out the rest of CHAIN, whatever is done of it already."""
    for name, run, code in SCRIPT:
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
            known_runs = [r for r in map(records.decode, payloads[1:length]) if isinstance(r, records.RunRecord)]
            ran = {(r.process, r.run) for r in known_runs if r.state >= ProcessState.RUNNING}
            for name, run, code in SCRIPT:
                if (name, run) in ran:
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
