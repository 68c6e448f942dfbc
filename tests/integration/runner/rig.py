"""The runner under test, a real process, and words for tasks."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import grpc

from mesos.v1 import mesos_pb2
from trivet.runner.v1 import runner_pb2, runner_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# Generous: a loaded machine must not fail a test; nothing waits this long when all is well.
PATIENCE = 20.0


def boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def task_info(task: dict[str, Any], task_id: str = "t1") -> bytes:
    info = mesos_pb2.TaskInfo(name="test")
    info.task_id.value = task_id
    info.agent_id.value = "agent"
    info.data = json.dumps(task).encode()
    return info.SerializeToString()


def process(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "cmdline": f"run {name}", **more}


class RunnerUnderTest:
    """A real `python -m services.runner`."""

    def __init__(self, directory: str, *options: str) -> None:
        self.run_dir = os.path.join(directory, "run")
        self.state_dir = os.path.join(directory, "state")
        self.options = options
        # What starts it: a program that ends by executing its arguments.
        self.launcher: tuple[str, ...] = ()
        self.process: asyncio.subprocess.Process | None = None
        self.log: list[dict[str, Any]] = []
        self._reader: asyncio.Task[None] | None = None

    async def start(self) -> None:
        ready = asyncio.Event()
        self.process = await asyncio.create_subprocess_exec(
            *self.launcher,
            sys.executable,
            "-m",
            "services.runner",
            "--run-dir",
            self.run_dir,
            "--state-dir",
            self.state_dir,
            *self.options,
            stderr=asyncio.subprocess.PIPE,
        )
        self._reader = asyncio.create_task(self._read(self.process, ready))
        await asyncio.wait_for(ready.wait(), PATIENCE)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        # Whatever became of the test, no process stays.
        await self.end(signal.SIGKILL)

    async def _read(self, process: asyncio.subprocess.Process, ready: asyncio.Event) -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            try:
                entry = json.loads(line)
            except ValueError:
                entry = {"msg": line.decode(errors="replace").rstrip(), "level": "raw"}
            self.log.append(entry)
            if entry["msg"] == "ready":
                ready.set()
        ready.set()

    async def end(self, signum: int = signal.SIGTERM) -> int:
        assert self.process is not None
        assert self._reader is not None
        if self.process.returncode is None:
            self.process.send_signal(signum)
        code = await asyncio.wait_for(self.process.wait(), PATIENCE)
        await self._reader
        return code

    def errors(self) -> list[dict[str, Any]]:
        return [entry for entry in self.log if entry["level"] in ("error", "raw", "critical")]

    def admin(self) -> tuple[grpc.aio.Channel, Any]:
        channel = grpc.aio.insecure_channel(f"unix:{self.run_dir}/runner-admin.sock")
        return channel, runner_pb2_grpc.RunnerServiceStub(channel)


async def watching(stub: Any, task_id: str = "") -> AsyncIterator[runner_pb2.WatchTasksResponse]:
    async for event in stub.WatchTasks(runner_pb2.WatchTasksRequest(task_id=task_id)):
        yield event


def journals(runner: RunnerUnderTest) -> list[Path]:
    return sorted(Path(runner.state_dir, "tasks").glob("*.journal"))
