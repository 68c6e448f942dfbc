"""Ctrl-C: the first one kills the task in order, the second at once, the third gives up waiting."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from mesos.v1 import mesos_pb2
from services.cli.clients import answered
from services.cli.waiting import first
from trivet.agent.v1 import agent_pb2, agent_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable

    import grpc

_CALL_SECS = 10.0
# Mesos drops a KILL that finds no stream and leaves repeating it to the scheduler: that is us.
_REPEAT_SECS = 1.0


class Interrupts:
    """Counts SIGINT, SIGTERM and SIGHUP from now on."""

    def __init__(self) -> None:
        self._levels = [asyncio.Event() for _ in range(3)]
        self._count = 0
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(signum, self.interrupt)

    def interrupt(self) -> None:
        """One more."""
        if self._count < len(self._levels):
            self._levels[self._count].set()
        self._count += 1

    @property
    def any(self) -> bool:
        """There was one."""
        return self._count > 0

    async def at_least(self, count: int) -> None:
        """Waits for the first, second or third."""
        await self._levels[count - 1].wait()


async def kill_when_interrupted(
    channel: grpc.aio.Channel, task_id: str, interrupts: Interrupts, note: Callable[[str], None]
) -> None:
    """Carries out the interrupts on a task that runs; returns when the third says not to wait for its end."""
    await interrupts.at_least(1)
    note("killing the task in order (again: kill it at once)")
    await first(_kill(channel, agent_pb2.KillTaskRequest(task_id=task_id)), interrupts.at_least(2))
    await interrupts.at_least(2)
    note("killing the task at once (again: do not wait for its end)")
    policy = mesos_pb2.KillPolicy(grace_period=mesos_pb2.DurationInfo(nanoseconds=0))
    at_once = agent_pb2.KillTaskRequest(task_id=task_id, kill_policy=policy)
    await first(_kill(channel, at_once), interrupts.at_least(3))
    await interrupts.at_least(3)


async def _kill(channel: grpc.aio.Channel, request: agent_pb2.KillTaskRequest) -> None:
    """Repeats KILL until it was written to the executor's stream."""
    stub = agent_pb2_grpc.LocalAgentServiceStub(channel)
    while True:
        answer: agent_pb2.KillTaskResponse = await answered(
            lambda: stub.KillTask(request, wait_for_ready=True, timeout=_CALL_SECS)
        )
        if answer.sent:
            return
        await asyncio.sleep(_REPEAT_SECS)
