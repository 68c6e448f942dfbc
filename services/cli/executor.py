"""The executor's own end: it leaves by itself once the agent has acknowledged its last status."""

from __future__ import annotations

import asyncio
import os

import grpc

from services.cli.waiting import within
from trivet.agent.v1 import agent_pb2, agent_pb2_grpc

_CALL_SECS = 5.0


async def gone(channel: grpc.aio.Channel, executor_id: str, seconds: float) -> bool:
    """Waits until the executor's process has ended; False: it has not after `seconds`, or the agent does not answer."""
    stub = agent_pb2_grpc.LocalAgentServiceStub(channel)
    try:
        answer: agent_pb2.ListExecutorsResponse = await stub.ListExecutors(
            agent_pb2.ListExecutorsRequest(), timeout=_CALL_SECS, wait_for_ready=True
        )
    except grpc.aio.AioRpcError:
        return False
    for executor in answer.executors:
        if executor.executor_id == executor_id and executor.state != agent_pb2.EXECUTOR_STATE_TERMINATED:
            return await within(seconds, _ended(executor.pid)) if executor.pid else True
    return True


async def _ended(pid: int) -> None:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(fd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)
