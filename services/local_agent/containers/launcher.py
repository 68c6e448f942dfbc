"""What all launchers share: containers by id, their first process under watch, their ends."""

from __future__ import annotations

import asyncio
import logging
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from services.local_agent.containers.contract import LaunchFailed
from services.local_agent.containers.process_tree import read_process
from services.local_agent.containers.unknown_children import UnknownChildren

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mesos.v1 import mesos_pb2
    from services.local_agent.containers.contract import Child, Command, Forked, Limitation, Reports, Watch

_LOG = logging.getLogger(__name__)


@dataclass
class Container:
    """One container and its first process."""

    container_id: str
    pid: int
    pidfd: int
    # What tells of a limit that was exceeded.
    watches: list[Watch] = field(default_factory=list)


class Launcher(ABC):
    """All containers of this agent. Belongs to one event loop; what blocks runs in its threads."""

    def __init__(self, reports: Reports) -> None:
        self._reports = reports
        self._containers: dict[str, Container] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        # Launches whose process is not among the containers yet.
        self._starting = 0
        self._unknown = UnknownChildren(self.reap_unknown)
        self._reap_later = False

    # What launchers differ in. All of it may block, and runs in a thread.

    @abstractmethod
    def _start(
        self, container_id: str, sandbox: str, command: Command, resources: Sequence[mesos_pb2.Resource]
    ) -> Child:
        """Makes the container; nothing stays behind when this raises LaunchFailed."""

    @abstractmethod
    def _kill(self, container: Container, *, first_is_gone: bool) -> set[int]:
        """SIGKILL to all processes that can be found; returns their pids."""

    @abstractmethod
    def _clean_up(self, container_id: str) -> None:
        """The container's processes are gone; what was made for it goes, too."""

    @abstractmethod
    def find(self, container_id: str, sandbox: str) -> Forked | None:
        """The process of a container whose pid was never noted; None: there is none."""

    @abstractmethod
    def kill_orphans(self, pid: int, start_ticks: int, sandbox: str) -> set[int]:
        """The container's process died while there was no agent: SIGKILL to what it has left; returns the pids."""

    # The same, but in the loop's thread: without blocking.

    @abstractmethod
    def _limitation(self, container: Container, *, woken: bool) -> Limitation | None:
        """The limit that the container has exceeded; told once. `woken`: one of its watches says so."""

    @abstractmethod
    def _watches(self, container: Container) -> list[Watch]:
        """What to watch besides the process."""

    @abstractmethod
    def update(self, container_id: str, resources: Sequence[mesos_pb2.Resource]) -> None:
        """The container's limits follow what its executor and tasks have been given."""

    @abstractmethod
    async def remove_unknown(self) -> None:
        """After all adoptions: destroys what earlier processes of this agent have left and nobody adopted."""

    # What is common.

    def _exit_of(self, container: Container) -> tuple[int | None, int | None]:
        """Code and signal of the first process, which has ended. Reaps it when it is a child of this process."""
        try:
            result = os.waitid(os.P_PIDFD, container.pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            # Adopted from an earlier process of this agent.
            return None, None
        if result is None:
            return None, None
        return (result.si_status, None) if result.si_code == os.CLD_EXITED else (None, result.si_status)

    async def launch(
        self,
        container_id: str,
        sandbox: str,
        command: Command,
        resources: Sequence[mesos_pb2.Resource],
        forked: Callable[[Forked], None],
    ) -> None:
        """Makes the sandbox and starts the executor in it.

        Args:
            container_id: Names the container.
            sandbox: Directory to be made.
            command: What to execute.
            resources: What executor and tasks have been given.
            forked: Told of the process, in time to note it: the executor's program may not run before.

        Raises:
            LaunchFailed: Sandbox or process cannot be made, or `forked` raised it.
        """
        self._starting += 1
        try:
            try:
                child = await asyncio.to_thread(self._start, container_id, sandbox, command, resources)
            except OSError as error:
                raise LaunchFailed(str(error)) from error
            container = Container(container_id, child.forked.pid, os.pidfd_open(child.forked.pid))
            self._containers[container_id] = container
        finally:
            self._starting -= 1
            if self._reap_later:
                self.reap_unknown()
        self._idle.clear()
        try:
            forked(child.forked)
            await asyncio.to_thread(child.go)
        except LaunchFailed:
            child.close()
            await asyncio.to_thread(self._kill, container, first_is_gone=False)
            self._exit_of(container)
            await asyncio.to_thread(self._clean_up, container_id)
            self._forget(container)
            raise
        child.close()
        self._watch(container)

    def adopt(self, container_id: str, pid: int, start_ticks: int) -> bool:
        """Takes over a process that an earlier process of this agent started; False: it is gone."""
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        row = read_process(pid)
        # A zombie that is our child (this process was replaced by execve) can still tell how it ended.
        ended = row is not None and row.state in "ZX" and row.parent != os.getpid()
        if row is None or row.start_ticks != start_ticks or ended:
            # Another process has the number by now.
            os.close(pidfd)
            return False
        self._containers[container_id] = container = Container(container_id, pid, pidfd)
        self._idle.clear()
        self._watch(container)
        return True

    async def destroy(self, container_id: str) -> bool:
        """SIGKILL to all that can be found; `Reports.container_exited` follows. False: no such container."""
        container = self._containers.get(container_id)
        if container is None:
            return False
        killed = await asyncio.to_thread(self._kill, container, first_is_gone=False)
        _LOG.info("container destroyed", extra={"fields": {"container": container_id, "processes": len(killed)}})
        return True

    def reap_unknown(self) -> None:
        """After all adoptions: what this process' earlier life has left and nobody adopted is reaped when it ends."""
        # While a process is being started it cannot be told from them.
        self._reap_later = self._starting > 0
        if not self._reap_later:
            self._unknown.watch({container.pid for container in self._containers.values()})

    @property
    def busy(self) -> bool:
        """An end is under way."""
        return bool(self._ending)

    async def settle(self) -> None:
        """Returns when no end is under way: each that was noticed has been told."""
        while self._ending:
            await asyncio.wait(self._ending)

    async def wait_idle(self) -> None:
        """Returns when no container is left."""
        await self._idle.wait()

    def close(self) -> None:
        """Leaves all processes alone and forgets them; ends that are under way are told to nobody."""
        for task in self._ending:
            task.cancel()
        for container in list(self._containers.values()):
            self._unwatch(container)
            os.close(container.pidfd)
        self._containers.clear()
        self._unknown.close()

    def _watch(self, container: Container) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(container.pidfd, self._ended, container)
        container.watches = self._watches(container)
        for watch in container.watches:
            loop.add_reader(watch.fileno(), self._exceeded, container)

    def _unwatch(self, container: Container) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(container.pidfd)
        for watch in container.watches:
            loop.remove_reader(watch.fileno())
            watch.close()
        container.watches.clear()

    def _exceeded(self, container: Container) -> None:
        """A watch has woken up, or the container has ended."""
        woken = [watch.drain() for watch in container.watches]
        limitation = self._limitation(container, woken=any(woken))
        if limitation is not None:
            _LOG.warning("limit exceeded", extra={"fields": {"container": container.container_id}})
            self._reports.container_limited(container.container_id, limitation)

    def _ended(self, container: Container) -> None:
        # The end may be seen before the event that tells its cause.
        self._exceeded(container)
        self._unwatch(container)
        task = asyncio.create_task(self._end(container))
        self._ending.add(task)
        task.add_done_callback(self._end_done)

    async def _end(self, container: Container) -> None:
        # Before the child is reaped: until then nobody else can have its number, so its session is really its own.
        leftover = await asyncio.to_thread(self._kill, container, first_is_gone=True)
        code, number = self._exit_of(container)
        await asyncio.to_thread(self._clean_up, container.container_id)
        self._forget(container)
        fields = {"container": container.container_id, "code": code, "signal": number, "killed": len(leftover)}
        _LOG.info("container exited", extra={"fields": fields})
        self._reports.container_exited(container.container_id, code, number)

    def _end_done(self, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _LOG.critical("error at a container's end", exc_info=error)
            self._reports.launcher_failed(f"at a container's end: {error}")

    def _forget(self, container: Container) -> None:
        os.close(container.pidfd)
        self._containers.pop(container.container_id, None)
        if not self._containers:
            self._idle.set()
