"""The runner as a real process, with a double of the driver on its real socket."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from tests.integration.runner_double import DriverDouble, RunnerUnderTest, process
from trivet.link.v1 import link_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

Scenario = "Callable[[RunnerUnderTest, DriverDouble], Coroutine[Any, Any, None]]"


@asynccontextmanager
async def attached(directory: Path, *options: str) -> AsyncIterator[tuple[RunnerUnderTest, DriverDouble]]:
    runner = RunnerUnderTest(str(directory), *options)
    await runner.start()
    driver = DriverDouble(runner)
    try:
        await driver.attach()
        yield runner, driver
    finally:
        await driver.detach()
        assert await runner.end() == 0
    assert runner.errors() == []


def test_a_chain_is_started_one_by_one_and_ends_in_success(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with attached(tmp_path) as (_, driver):
            await driver.launch({"processes": [process("a"), process("b")], "constraints": [{"order": ["a", "b"]}]})
            await driver.runs("a")
            assert driver.starts() == [("a", 0)]
            await driver.exits("a", code=0)
            await driver.runs("b")
            await driver.exits("b", code=0)
            state = await driver.phase(link_pb2.TASK_PHASE_SUCCESS)
            assert state.end_cause == link_pb2.END_CAUSE_PLAN
            assert state.message == "Task completed"
            assert driver.terminates() == []

    asyncio.run(scenario())
