"""Asking a task to end: POST to an endpoint of its own, from inside its container (Aurora: HttpLifecycleConfig)."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from executor_shim.driver.clock import boottime
from executor_shim.driver.probes import loopback
from executor_shim.driver.probes.results import NoAnswer, NotMade
from executor_shim.driver.probes.target import request_head
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from executor_shim.driver.hub import Hub
    from executor_shim.driver.state.entries import Task

# Bytes of an answer that are read, so that a server that is still writing does not meet a closed connection.
_POLITE = 64 << 10


class Lifecycles:
    """One question at a time for each task."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._under_way: dict[str, asyncio.Task[None]] = {}

    def ask(self, task: Task, order: runner_pb2.Lifecycle) -> None:
        """Begins to ask; what comes of it goes to the runner. An earlier question is dropped without an answer."""
        self.cancel(task.key)
        asked = asyncio.get_running_loop().create_task(self._ask(order))
        self._under_way[task.key] = asked
        asked.add_done_callback(lambda done: self._over(task.key, done))

    def cancel(self, key: str) -> None:
        """Nobody wants to know any more."""
        asked = self._under_way.pop(key, None)
        if asked is not None:
            asked.cancel()

    def _over(self, key: str, done: asyncio.Task[None]) -> None:
        if self._under_way.get(key) is done:
            del self._under_way[key]
        if not done.cancelled() and (error := done.exception()) is not None:
            raise error

    async def _ask(self, order: runner_pb2.Lifecycle) -> None:
        answered = False
        try:
            async with asyncio.timeout(order.until - boottime()):
                reader, writer = await asyncio.open_connection(sock=await loopback.connect(order.port))
                try:
                    writer.write(request_head("POST", order.port, order.path, "Content-Length: 0"))
                    await writer.drain()
                    detail = await _status(reader)
                    answered = True
                    self._tell(order, answered=True, detail=f"POST {order.path}: {detail}")
                    await _drain(reader)
                finally:
                    writer.close()
        except TimeoutError:
            why = "no answer in time"
        except (_NotHttp, NoAnswer, NotMade, OSError) as error:
            # asyncio has words of its own for what the kernel says.
            why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        else:
            return
        if not answered:
            self._tell(order, answered=False, detail=f"POST {order.path}: {why}")

    def _tell(self, order: runner_pb2.Lifecycle, *, answered: bool, detail: str) -> None:
        done = runner_pb2.LifecycleDone(key=order.key, step=order.step, answered=answered, detail=detail)
        self._hub.peers.runner.lifecycle_done(done)


class _NotHttp(Exception):
    """The port speaks something else."""


async def _status(reader: asyncio.StreamReader) -> str:
    """The status of an answer, as soon as its first line is there."""
    try:
        line = await reader.readline()
    except ValueError:
        raise _NotHttp("not an HTTP response: its first line does not end") from None
    parts = line.split(None, 2)
    if len(parts) < 2 or not parts[0].startswith(b"HTTP/") or len(parts[1]) != 3 or not parts[1].isdigit():
        raise _NotHttp(f"not an HTTP response: {line[:60]!r}" if line else "the connection was closed")
    return parts[1].decode()


async def _drain(reader: asyncio.StreamReader) -> None:
    left = _POLITE
    while left > 0 and (piece := await reader.read(left)):
        left -= len(piece)
