"""The runner as a real process, with a double of the driver on its real socket."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.integration.runner.driver_double import attached
from tests.integration.runner.rig import boottime, process
from trivet.link.v1 import link_pb2
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from pathlib import Path

CHAIN = {"processes": [process("a"), process("b")], "constraints": [{"order": ["a", "b"]}]}
FINAL = {"processes": [process("a"), process("f", final=True)], "finalization_wait": 30}


def test_a_chain_is_started_one_by_one_and_ends_in_success(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with attached(tmp_path) as (runner, driver):
            await driver.launch(CHAIN)
            await driver.runs("a")
            assert driver.starts() == [("a", 0)]
            await driver.exits("a", code=0)
            await driver.runs("b")
            await driver.exits("b", code=0)
            state = await driver.phase(link_pb2.TASK_PHASE_SUCCESS)
            assert state.end_cause == link_pb2.END_CAUSE_PLAN
            assert state.message == "Task completed"
            assert driver.terminates() == []
        assert runner.errors() == []

    asyncio.run(scenario())


def test_a_start_says_everything_that_the_hands_need(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with attached(tmp_path, uid=0) as (_, driver):
            await driver.launch({"processes": [process("a b")], "user": "nobody"})
            await driver.started("a b")
            start = next(m.start for m in driver.heard if m.HasField("start"))
            assert list(start.argv) == ["/bin/bash", "-c", "run a b"]
            assert dict(start.env) == {"HOME": "/mnt/mesos/sandbox/sandbox", "USER": "nobody", "LOGNAME": "nobody"}
            assert (start.cwd, start.user) == ("sandbox", "nobody")
            assert start.stdout == "sandbox/.logs/a b/0/stdout"
            assert start.stderr == "sandbox/.logs/a b/0/stderr"
            assert start.profile == "sandbox/.thermos_profile"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("task", "uid", "user"),
    [
        ({"processes": [process("a")], "user": "web"}, 1000, "web"),
        ({"task": {"processes": [process("a")]}, "role": "web", "environment": "e", "name": "n"}, 1000, ""),
        ({"task": {"processes": [process("a")]}, "role": "web", "environment": "e", "name": "n"}, 0, "web"),
    ],
)
def test_a_role_is_a_user_only_for_a_root_executor(
    tmp_path: Path, task: dict[str, object], uid: int, user: str
) -> None:
    async def scenario() -> None:
        async with attached(tmp_path, uid=uid) as (runner, driver):
            await driver.launch(task)
            await driver.started("a")
            assert next(m.start.user for m in driver.heard if m.HasField("start")) == user
            channel, stub = runner.admin()
            shown = (await stub.GetTask(runner_pb2.GetTaskRequest(task_id="t1"))).task
            await channel.close()
            assert any("role 'web'" in text for text in shown.warnings) == (not user)

    asyncio.run(scenario())


def test_a_failed_process_is_named_with_its_exit_code_and_runs(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with attached(tmp_path) as (runner, driver):
            await driver.launch({"processes": [process("a", max_failures=2, min_duration=0)]})
            for run in (0, 1):
                await driver.runs("a", run)
                await driver.exits("a", run, code=3 + run)
            state = await driver.phase(link_pb2.TASK_PHASE_FAILED)
            assert state.message == "process 'a' failed: exit code 4 (run 2 of at most 2)"
            channel, stub = runner.admin()
            details = await stub.GetTask(runner_pb2.GetTaskRequest(task_id="t1"))
            assert [run.exit.code for run in details.runs] == [3, 4]
            await channel.close()

    asyncio.run(scenario())


def test_a_run_that_could_not_be_started_is_told_with_its_error(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with attached(tmp_path) as (_, driver):
            await driver.launch({"processes": [process("a")], "user": "nobody-here"})
            await driver.started("a")
            record = driver.set_run("a", state=link_pb2.RUN_STATE_NOT_STARTED, error="user 'nobody-here': unknown")
            await driver.tell(record)
            state = await driver.phase(link_pb2.TASK_PHASE_FAILED)
            assert not state.started
            assert "could not be started: user 'nobody-here': unknown" in state.message

    asyncio.run(scenario())


def test_an_invalid_task_fails_with_all_its_violations_and_nothing_is_started(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with attached(tmp_path) as (_, driver):
            await driver.launch({"processes": [process("a"), process("a"), {"name": "x/y", "cmdline": "true"}]})
            state = await driver.phase(link_pb2.TASK_PHASE_FAILED)
            assert state.end_cause == link_pb2.END_CAUSE_INVALID
            assert "processes[1]" in state.message
            assert "processes[2]" in state.message
            assert driver.starts() == []
            assert not state.started

    asyncio.run(scenario())


def test_a_kill_runs_the_finalizers_within_what_is_left_of_the_grace(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with attached(tmp_path) as (_, driver):
            await driver.launch(FINAL)
            await driver.runs("a")
            before = boottime()
            await driver.end(grace_secs=10.0)
            await driver.wait(lambda: len(driver.terminates()) == 1)
            assert before + 9.9 < driver.terminates()[0] < boottime() + 10.1
            await driver.exits("a", signal=15)
            await driver.runs("f")
            await driver.exits("f", code=1)
            state = await driver.phase(link_pb2.TASK_PHASE_KILLED)
            assert state.end_cause == link_pb2.END_CAUSE_KILL
            assert state.message == "Killed by request"

    asyncio.run(scenario())


def test_a_kill_between_start_and_fork_waits_for_the_process(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with attached(tmp_path) as (runner, driver):
            await driver.launch({"processes": [process("a")]})
            await driver.started("a")
            await driver.end()
            await driver.wait(lambda: len(driver.terminates()) == 1)
            # What the hands said before they heard of the start.
            await driver.tell()
            await driver.tell(driver.set_run("a", state=link_pb2.RUN_STATE_FORKED))
            await driver.exits("a", signal=15)
            await driver.phase(link_pb2.TASK_PHASE_KILLED)
            channel, stub = runner.admin()
            details = await stub.GetTask(runner_pb2.GetTaskRequest(task_id="t1"))
            assert [run.exit.signal for run in details.runs] == [15]
            await channel.close()

    asyncio.run(scenario())


def test_the_deadline_of_a_shutdown_caps_everything(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with attached(tmp_path) as (_, driver):
            await driver.launch(FINAL)
            await driver.runs("a")
            deadline = boottime() + 1.5
            await driver.end(link_pb2.END_CAUSE_SHUTDOWN, deadline=deadline)
            await driver.wait(lambda: driver.terminates() == [deadline])
            await driver.exits("a", signal=15)
            await driver.runs("f")
            # The finalizer does not end: it is killed when the time is up, by the runner's own clock.
            await driver.wait(lambda: driver.terminates() == [deadline, 0.0])
            assert boottime() >= deadline
            await driver.exits("f", signal=9)
            state = await driver.phase(link_pb2.TASK_PHASE_KILLED)
            assert state.end_cause == link_pb2.END_CAUSE_SHUTDOWN

    asyncio.run(scenario())


def test_leftovers_are_ended_before_the_task_is_over(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with attached(tmp_path) as (_, driver):
            await driver.launch({"processes": [process("a")], "finalization_wait": 20})
            await driver.runs("a")
            record = driver.set_exit("a", code=0)
            driver.tasks["t1"].alive = 2
            await driver.tell(record)
            await driver.wait(lambda: len(driver.terminates()) == 1)
            await driver.phase(link_pb2.TASK_PHASE_CLEANING)
            driver.tasks["t1"].alive = 0
            await driver.tell()
            await driver.phase(link_pb2.TASK_PHASE_SUCCESS)

    asyncio.run(scenario())
