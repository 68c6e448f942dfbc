"""Mesos' linux launcher: a container is a cgroup, with limits and a pid namespace where --isolation says so."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from typing import TYPE_CHECKING

from services.local_agent.containers import helper
from services.local_agent.containers import sandbox as sandboxes
from services.local_agent.containers.cgroups import host, limits, mounts
from services.local_agent.containers.contract import LauncherUnavailable
from services.local_agent.containers.init import CLONE_NUMBERS
from services.local_agent.containers.launcher import Launcher
from services.local_agent.containers.process_tree import kill_tree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mesos.v1 import mesos_pb2
    from services.local_agent.containers.cgroups.group import Group
    from services.local_agent.containers.contract import Child, Command, Limitation, Reports, Watch
    from services.local_agent.containers.isolation import LauncherFlags
    from services.local_agent.containers.launcher import Container

_LOG = logging.getLogger(__name__)
CAP_SYS_ADMIN = 21


class LinuxLauncher(Launcher):
    """Everything in a container's cgroup belongs to it, whatever its session, parents or user."""

    def __init__(self, reports: Reports, flags: LauncherFlags, work_dir: str) -> None:
        """Checks the machine, and makes the agent's own cgroup.

        Raises:
            LauncherUnavailable: Says what is missing.
        """
        super().__init__(reports)
        _require_privileges(flags)
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            self._host = host.choose(flags, mounts.parse(file.read()))
        self._host.prepare()
        self._flags = flags
        # One directory a container, from before its cgroups exist until after they have gone: so that what a killed
        # agent has left can be found, and nothing of another agent with the same --cgroups-root is touched.
        self._runtime = os.path.join(work_dir, "containers")
        # OOMs that happened while there was no agent.
        self._ooms: dict[str, int] = {}
        # Their limitation was told.
        self._limited: set[str] = set()

    def _start(
        self, container_id: str, sandbox: str, command: Command, resources: Sequence[mesos_pb2.Resource]
    ) -> Child:
        runtime = os.path.join(self._runtime, container_id)
        os.makedirs(runtime, mode=0o700, exist_ok=True)
        group = self._host.group(container_id)
        try:
            sandboxes.make(sandbox, command.user)
            try:
                group.create()
            except FileNotFoundError:
                # Another agent that uses the same root has just left and tidied up.
                self._host.prepare()
                group.create()
            group.set_limits(limits.of(resources), first=True)
            isolation = self._flags.isolation
            plan = helper.Plan(
                procs=group.procs_files(),
                pid_namespace=isolation.pid_namespace,
                mount_namespace=isolation.mount_namespace,
                status=os.path.join(runtime, "status"),
            )
            return helper.start(sandbox, command, plan)
        except BaseException:
            self._remove(container_id)
            raise

    def _kill(self, container: Container, *, first_is_gone: bool) -> set[int]:
        group = self._group(container.container_id)
        if group is None:
            return kill_tree(container.pid, spare_root=first_is_gone)
        return group.destroy()

    def _clean_up(self, container_id: str) -> None:
        self._ooms.pop(container_id, None)
        self._limited.discard(container_id)
        self._remove(container_id)

    def _exit_of(self, container: Container) -> tuple[int | None, int | None]:
        """What process 1 of the namespace has noted is exact, and known after a restart of the agent, too."""
        code, number = super()._exit_of(container)
        try:
            with open(os.path.join(self._runtime, container.container_id, "status")) as file:
                word, _, value = file.read().partition(" ")
        except FileNotFoundError:
            # No namespace, or it ended before the executor was started.
            return code, number
        if word == "code":
            return int(value), None
        if word == "signal":
            return None, int(value)
        # Process 1 itself was killed.
        return code, number

    def find(self, container_id: str, sandbox: str) -> None:
        """Never: a first process whose agent dies before it has noted the pid ends by itself, see `init.py`."""

    def kill_orphans(self, pid: int, start_ticks: int, sandbox: str) -> set[int]:
        """Nothing to do: `remove_unknown` destroys the cgroup."""
        del pid, start_ticks, sandbox
        return set()

    def _limitation(self, container: Container, *, woken: bool) -> Limitation | None:
        group = self._group(container.container_id)
        if group is None or container.container_id in self._limited:
            return None
        happened = group.ooms() > self._ooms.get(container.container_id, 0)
        if not happened and not (woken and group.wakes_at_oom_only):
            return None
        self._limited.add(container.container_id)
        return limits.memory_limitation(group.memory_use())

    def _watches(self, container: Container) -> list[Watch]:
        group = self._group(container.container_id)
        watch = group.open_oom() if group is not None else None
        return [] if watch is None else [watch]

    def update(self, container_id: str, resources: Sequence[mesos_pb2.Resource]) -> None:
        """See `Launcher`."""
        group = self._group(container_id) if container_id in self._containers else None
        if group is None:
            return
        try:
            group.set_limits(limits.of(resources), first=False)
        except OSError as error:
            # The container ends at this moment, or the kernel refuses the value: the old limit holds.
            _LOG.warning("limits not set", extra={"fields": {"container": container_id, "error": str(error)}})

    def adopt(self, container_id: str, pid: int, start_ticks: int) -> bool:
        """See `Launcher`. OOMs of the time without an agent are nobody's (as in Mesos)."""
        group = self._group(container_id)
        if group is not None:
            self._ooms[container_id] = group.ooms()
        return super().adopt(container_id, pid, start_ticks)

    async def remove_unknown(self) -> None:
        """See `Launcher`."""
        await asyncio.to_thread(self._remove_unknown)

    def _remove_unknown(self) -> None:
        try:
            names = os.listdir(self._runtime)
        except FileNotFoundError:
            return
        for container_id in set(names) - set(self._containers):
            killed = self._host.group(container_id).destroy()
            _LOG.info("orphan destroyed", extra={"fields": {"container": container_id, "processes": len(killed)}})
            self._remove(container_id)

    def close(self) -> None:
        """See `Launcher`."""
        super().close()
        self._host.tidy()

    def _group(self, container_id: str) -> Group | None:
        """None: made by another launcher or another version of cgroups, in an earlier process of this agent."""
        group = self._host.group(container_id)
        return group if group.exists() else None

    def _remove(self, container_id: str) -> None:
        if not self._host.group(container_id).remove():
            # Unkillable processes; the next process of this agent tries again.
            _LOG.error("cgroup not removed", extra={"fields": {"container": container_id}})
            return
        shutil.rmtree(os.path.join(self._runtime, container_id), ignore_errors=True)


def _require_privileges(flags: LauncherFlags) -> None:
    if os.geteuid() != 0:
        raise LauncherUnavailable("not root, which cgroups need: run the agent as root, or use --launcher=posix")
    if not flags.isolation.mount_namespace:
        return
    with open("/proc/self/status") as file:
        lines = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    if not int(lines["CapEff"], 16) >> CAP_SYS_ADMIN & 1:
        raise LauncherUnavailable(
            "no capability CAP_SYS_ADMIN, which namespaces need: add it (in Docker: --privileged), leave "
            "namespaces/pid out of --isolation, or use --launcher=posix"
        )
    if flags.isolation.pid_namespace and os.uname().machine not in CLONE_NUMBERS:
        raise LauncherUnavailable(
            f"namespaces/pid is not known on {os.uname().machine}: leave it out of --isolation, or use --launcher=posix"
        )
