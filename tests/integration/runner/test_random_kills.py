"""The runner killed with SIGKILL at random moments, while hands that obey at once keep a stream of tasks going."""

from __future__ import annotations

import asyncio
import random
import signal
from typing import TYPE_CHECKING

import grpc

from tests.integration.runner.driver_double import DriverDouble
from tests.integration.runner.rig import PATIENCE, RunnerUnderTest, process
from trivet.link.v1 import link_pb2
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from pathlib import Path

KILLS = 30
TASKS = KILLS
# `a` fails twice, then everything goes well.
TASK = {
    "processes": [
        process("a", max_failures=3, min_duration=0),
        process("b"),
        process("c"),
        process("f", final=True),
    ],
    "constraints": [{"order": ["a", "b", "c"]}],
}
RUNS = [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("c", 0), ("f", 0)]


class ObedientDriver(DriverDouble):
    """Its hands carry out every start at once, and every process ends at once; each run only ever once."""

    def __init__(self, runner: RunnerUnderTest) -> None:
        super().__init__(runner)
        self.carried_out: dict[str, list[tuple[str, int]]] = {}
        # What it could not say, because the runner was gone, is in the next Hello.
        self._obeying: set[asyncio.Task[None]] = set()

    def _take(self, message: runner_pb2.AttachResponse) -> None:
        super()._take(message)
        if message.HasField("start"):
            start = message.start
            obeying = asyncio.get_running_loop().create_task(self._obey(start.key.task_id, start.process, start.run))
            self._obeying.add(obeying)
            obeying.add_done_callback(self._obeying.discard)

    async def _obey(self, task_id: str, name: str, run: int) -> None:
        key = (name, run)
        if key not in self.tasks[task_id].runs:
            self.carried_out.setdefault(task_id, []).append(key)
            await self._tell(self.set_run(name, run, task_id, state=link_pb2.RUN_STATE_RUNNING), task_id)
            self.set_exit(name, run, task_id, code=1 if key in RUNS[:2] else 0)
        await self._tell(self.tasks[task_id].runs[key], task_id)

    async def _tell(self, record: link_pb2.Run, task_id: str) -> None:
        try:
            await self.tell(record, task_id=task_id)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, grpc.aio.UsageError):
            # The stream is over: the runner is dead.
            pass


def test_thirty_kills_at_random_moments_double_nothing_and_forget_nothing(tmp_path: Path) -> None:
    seed = random.randrange(1 << 30)
    dice = random.Random(seed)
    print(f"seed {seed}")

    async def scenario() -> None:
        async with RunnerUnderTest(str(tmp_path)) as runner:
            driver = ObedientDriver(runner)
            await driver.attach()
            in_the_middle = 0
            for number in range(KILLS):
                driver.launch_unheard(TASK, f"t{number}")
                await launch(driver, f"t{number}")
                # Up to about what a task needs from its launch to its end.
                await asyncio.sleep(dice.uniform(0.0, 0.03))
                in_the_middle += not (len(driver.states) == number + 1 and all(map(over, driver.states.values())))
                await runner.end(signal.SIGKILL)
                await driver.detach()
                await runner.start()
                await driver.attach()
            await driver.wait(lambda: len(driver.states) == TASKS and all(map(over, driver.states.values())))
            assert in_the_middle > KILLS // 6
            await compare(runner, driver)
            await driver.detach()
            assert await runner.end() == 0
        assert runner.errors() == []

    async def launch(driver: ObedientDriver, task_id: str) -> None:
        try:
            await driver._write(driver._launch_message(task_id))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, grpc.aio.UsageError):
            # It is in the next Hello.
            pass

    asyncio.run(asyncio.wait_for(scenario(), 15 * PATIENCE))


def over(state: link_pb2.TaskState) -> bool:
    return state.phase == link_pb2.TASK_PHASE_SUCCESS


async def compare(runner: RunnerUnderTest, driver: ObedientDriver) -> None:
    channel, stub = runner.admin()
    for number in range(TASKS):
        task_id = f"t{number}"
        details = await stub.GetTask(runner_pb2.GetTaskRequest(task_id=task_id))
        runs = {(run.process, run.run): run for run in details.runs}
        assert list(runs) == RUNS, task_id
        assert driver.carried_out[task_id] == RUNS, task_id
        codes = [run.exit.code for run in runs.values()]
        assert codes == [1, 1, 0, 0, 0, 0], task_id
        assert not details.task.state.rebuilt, task_id
    await channel.close()
