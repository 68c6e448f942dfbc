"""Mesos' posix launcher: an executor is a plain child in a session of its own; destroy kills its process tree."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.local_agent.containers.process_tree import kill_tree, read_process

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    # Container id, exit code, signal; None: not known, or not so.
    OnExit = Callable[[str, int | None, int | None], None]

_LOG = logging.getLogger(__name__)


class LaunchFailed(Exception):
    """There is no sandbox or no process; the text says why, without arguments and environment."""


@dataclass(frozen=True)
class Command:
    """What to execute: `executable` is searched in PATH of `environment` when it has no slash."""

    executable: str
    arguments: Sequence[str]
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Forked:
    """The executor's process."""

    pid: int
    start_ticks: int


@dataclass
class _Container:
    pid: int
    pidfd: int
    # None: adopted from an earlier process of this agent, not our child. Kept here until the end, because a Popen that
    # is dropped early hands its child to whoever starts the next process.
    process: subprocess.Popen[bytes] | None


class PosixLauncher:
    """All containers of this agent. Belongs to one event loop; what blocks runs in its threads."""

    def __init__(self, on_exit: OnExit) -> None:
        self._on_exit = on_exit
        self._containers: dict[str, _Container] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    async def launch(self, container_id: str, sandbox: str, command: Command) -> Forked:
        """Makes the sandbox and starts the process in it.

        Raises:
            LaunchFailed: Sandbox or process cannot be made.
        """
        try:
            process = await asyncio.to_thread(_spawn, sandbox, command)
        except OSError as error:
            raise LaunchFailed(str(error)) from error
        row = read_process(process.pid)
        self._watch(container_id, process.pid, process)
        return Forked(process.pid, row.start_ticks if row else 0)

    def adopt(self, container_id: str, pid: int, start_ticks: int) -> bool:
        """Takes over a process that an earlier process of this agent started; False: it is gone."""
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        row = read_process(pid)
        if row is None or row.start_ticks != start_ticks or row.state in "ZX":
            # Another process has the number by now.
            os.close(pidfd)
            return False
        self._watch(container_id, pid, None, pidfd)
        return True

    async def destroy(self, container_id: str) -> bool:
        """SIGKILL to all that can be found; `on_exit` follows. False: no such container."""
        container = self._containers.get(container_id)
        if container is None:
            return False
        killed = await asyncio.to_thread(kill_tree, container.pid)
        _LOG.info("container destroyed", extra={"fields": {"container": container_id, "processes": len(killed)}})
        return True

    async def wait_idle(self) -> None:
        """Returns when no container is left."""
        await self._idle.wait()

    def close(self) -> None:
        """Leaves all processes alone and forgets them."""
        for container in self._containers.values():
            asyncio.get_running_loop().remove_reader(container.pidfd)
            os.close(container.pidfd)
            if container.process is not None:
                # They go on without this process; nothing is to be said about it when the object goes.
                container.process.returncode = 0
        self._containers.clear()

    def _watch(
        self, container_id: str, pid: int, process: subprocess.Popen[bytes] | None, pidfd: int | None = None
    ) -> None:
        pidfd = os.pidfd_open(pid) if pidfd is None else pidfd
        self._containers[container_id] = _Container(pid, pidfd, process)
        self._idle.clear()
        asyncio.get_running_loop().add_reader(pidfd, self._readable, container_id)

    def _readable(self, container_id: str) -> None:
        container = self._containers[container_id]
        asyncio.get_running_loop().remove_reader(container.pidfd)
        task = asyncio.create_task(self._end(container_id, container))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _end(self, container_id: str, container: _Container) -> None:
        # Before the child is reaped: until then nobody else can have its number, so its session is really its own.
        leftover = await asyncio.to_thread(kill_tree, container.pid, spare_root=True)
        code = container.process.wait() if container.process is not None else None
        os.close(container.pidfd)
        self._containers.pop(container_id, None)
        fields = {"container": container_id, "status": code, "killed_with_it": len(leftover)}
        _LOG.info("container exited", extra={"fields": fields})
        if not self._containers:
            self._idle.set()
        if code is None:
            self._on_exit(container_id, None, None)
        elif code < 0:
            self._on_exit(container_id, None, -code)
        else:
            self._on_exit(container_id, code, None)


def _spawn(sandbox: str, command: Command) -> subprocess.Popen[bytes]:
    _make_sandbox(sandbox)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    out = os.open(os.path.join(sandbox, "stdout"), flags, 0o644)
    err = os.open(os.path.join(sandbox, "stderr"), flags, 0o644)
    try:
        # No user, group or preexec_fn: they would mean fork() instead of vfork(), unsafe beside gRPC's threads.
        return subprocess.Popen(
            list(command.arguments),
            executable=command.executable,
            cwd=sandbox,
            env=dict(command.environment),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
    finally:
        os.close(out)
        os.close(err)


def _make_sandbox(sandbox: str) -> None:
    os.makedirs(sandbox, mode=0o755)
    runs, container_id = os.path.split(sandbox)
    temporary = os.path.join(runs, f".latest.{container_id}")
    os.symlink(container_id, temporary)
    os.rename(temporary, os.path.join(runs, "latest"))
