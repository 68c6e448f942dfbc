"""Launchers that stop at a gate or end too soon, and what they report to."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from services.local_agent.containers.contract import Command
from services.local_agent.containers.posix import PosixLauncher
from tests.integration.local_agent.rig import TIMEOUT, wait_gone

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mesos.v1 import mesos_pb2
    from services.local_agent.containers.contract import Child, Forked, Limitation, Reports
    from services.local_agent.containers.launcher import Container


class Told:
    """Keeps what the launcher reports."""

    def __init__(self) -> None:
        self.exits: list[tuple[str, int | None, int | None]] = []
        self.failures: list[str] = []
        self.exited = asyncio.Event()

    def container_exited(self, container_id: str, code: int | None, number: int | None) -> None:
        self.exits.append((container_id, code, number))
        self.exited.set()

    def container_limited(self, container_id: str, limitation: Limitation) -> None:
        raise AssertionError(f"{container_id}: {limitation}")

    def launcher_failed(self, why: str) -> None:
        self.failures.append(why)


class GatedLauncher(PosixLauncher):
    """Its thread waits at a gate: before a container is made, or before what is left of one is killed."""

    def __init__(self, reports: Reports, where: str) -> None:
        super().__init__(reports)
        self._where = where
        self._loop = asyncio.get_running_loop()
        self.entered = asyncio.Event()
        self.gate = threading.Event()

    def _wait(self, where: str) -> None:
        if where == self._where:
            self._loop.call_soon_threadsafe(self.entered.set)
            assert self.gate.wait(TIMEOUT)

    def _start(
        self, container_id: str, sandbox: str, command: Command, resources: Sequence[mesos_pb2.Resource]
    ) -> Child:
        self._wait("start")
        return super()._start(container_id, sandbox, command, resources)

    def _kill(self, container: Container, *, first_is_gone: bool) -> set[int]:
        if first_is_gone:
            self._wait("end")
        return super()._kill(container, first_is_gone=first_is_gone)


async def launch(launcher: PosixLauncher, directory: Path, *words: str) -> Forked:
    noted: list[Forked] = []
    command = Command(words[0], words, {"PATH": "/usr/bin:/bin"})
    await launcher.launch("c", str(directory / "c"), command, [], noted.append)
    return noted[0]


class EndsAtOnce(PosixLauncher):
    """The process has ended, and unknown children are looked for, before the launcher can note it."""

    def __init__(self, reports: Reports) -> None:
        super().__init__(reports)
        self._loop = asyncio.get_running_loop()

    def _start(
        self, container_id: str, sandbox: str, command: Command, resources: Sequence[mesos_pb2.Resource]
    ) -> Child:
        child = super()._start(container_id, sandbox, command, resources)
        wait_gone(child.forked.pid)
        asyncio.run_coroutine_threadsafe(self._look(), self._loop).result(TIMEOUT)
        return child

    async def _look(self) -> None:
        self.reap_unknown()
        await turns()


async def turns() -> None:
    """Whatever can go on without a thread has gone on."""
    for _ in range(20):
        await asyncio.sleep(0)
