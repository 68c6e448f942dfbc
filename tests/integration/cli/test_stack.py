"""The stack as a whole: an agent that cannot do its part at the end."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

from services.cli.arguments import parse
from services.cli.clients import open_channel
from services.cli.layout import Layout
from services.cli.prepare import prepare
from services.cli.stack import Stack
from services.cli.taskinfo import framework
from services.cli.watches import follow_statuses
from tests.integration.cli.rig import SECS, directory, pid_of, running_in
from trivet.agent.v1 import agent_pb2, agent_pb2_grpc

if TYPE_CHECKING:
    import grpc


async def until_running(channel: grpc.aio.Channel, run_dir: str) -> None:
    info = prepare(parse(["run", "--", "sleep", "1000"]), run_dir).info
    stub = agent_pb2_grpc.LocalAgentServiceStub(channel)
    await stub.LaunchTask(agent_pb2.LaunchTaskRequest(task=info, framework=framework()), timeout=SECS)
    running = asyncio.Event()

    def look(event: dict[str, object]) -> None:
        if event["state"] == "TASK_RUNNING":
            running.set()

    following = asyncio.create_task(follow_statuses(channel, info.task_id.value, look))
    await asyncio.wait_for(running.wait(), SECS)
    following.cancel()


def test_executors_of_an_agent_that_died_at_the_end_are_destroyed() -> None:
    notes: list[str] = []

    async def play(root: str) -> None:
        layout = Layout(root)
        layout.make()
        stack = Stack(layout, services=True, agent=True, note=notes.append)
        await stack.start()
        try:
            async with open_channel(layout.run, "agent") as channel:
                await until_running(channel, layout.run)
            os.kill(pid_of(root, "services.local_agent"), signal.SIGKILL)
        finally:
            await stack.stop()
        assert running_in(root) == {}

    with directory() as root:
        asyncio.run(play(root))
    assert "the agent did not stop in order: a new one destroys its executors" in notes
