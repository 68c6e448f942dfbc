"""Version 1: a hierarchy for each controller, or for some together."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from services.local_agent.containers.cgroups import limits as rules
from services.local_agent.containers.cgroups.group import Group, counter, read, tree, write
from services.local_agent.containers.cgroups.limits import Limits, MemoryUse
from services.local_agent.containers.cgroups.watches import EventWatch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.local_agent.containers.contract import Watch


class GroupV1(Group):
    """`<hierarchy>/<root>/<container id>` in each hierarchy."""

    wakes_at_oom_only = True

    def __init__(self, hierarchies: Mapping[str, str], root: str, container_id: str, *, cfs: bool) -> None:
        """`hierarchies`: mount points by controller, the freezer among them."""
        self._paths = {name: os.path.join(path, root, container_id) for name, path in hierarchies.items()}
        # cpu and cpuacct are one directory on most machines.
        others = dict.fromkeys(path for name, path in self._paths.items() if name != "freezer")
        self.directories = [self._paths["freezer"], *others]
        self._cfs = cfs

    def _file(self, controller: str, name: str) -> str:
        return os.path.join(self._paths[controller], name)

    def set_limits(self, limits: Limits, *, first: bool) -> None:
        """See `Group`."""
        if "memory" in self._paths and limits.memory is not None:
            write(self._file("memory", "memory.soft_limit_in_bytes"), str(limits.memory))
            hard = self._file("memory", "memory.limit_in_bytes")
            if first or limits.memory > int(read(hard)):
                write(hard, str(limits.memory))
        if "cpu" in self._paths and limits.cpus is not None:
            write(self._file("cpu", "cpu.shares"), str(rules.shares(limits.cpus)))
            if self._cfs:
                write(self._file("cpu", "cpu.cfs_period_us"), str(rules.PERIOD_USECS))
                write(self._file("cpu", "cpu.cfs_quota_us"), str(rules.quota_usecs(limits.cpus)))

    def kill_at_once(self) -> None:
        """It cannot."""

    def freeze(self, *, frozen: bool) -> None:
        """See `Group`. Not awaited: until a process is frozen, SIGKILL ends it."""
        if frozen:
            write(self._file("freezer", "freezer.state"), "FROZEN")
            return
        # The container may have frozen cgroups of its own, and version 1 keeps even the killed there.
        for path in tree(self._paths["freezer"]):
            write(os.path.join(path, "freezer.state"), "THAWED")

    def open_oom(self) -> Watch | None:
        """See `Group`."""
        if "memory" not in self._paths:
            return None
        watch = EventWatch()
        try:
            control = os.open(self._file("memory", "memory.oom_control"), os.O_RDONLY | os.O_CLOEXEC)
            try:
                write(self._file("memory", "cgroup.event_control"), f"{watch.fileno()} {control}")
            finally:
                os.close(control)
        except OSError:
            watch.close()
            raise
        return watch

    def ooms(self) -> int:
        """See `Group`."""
        if "memory" not in self._paths:
            return 0
        return counter(read(self._file("memory", "memory.oom_control")), "oom_kill")

    def memory_use(self) -> MemoryUse:
        """See `Group`."""
        return MemoryUse(
            int(read(self._file("memory", "memory.limit_in_bytes"))),
            int(read(self._file("memory", "memory.max_usage_in_bytes"))),
            read(self._file("memory", "memory.stat")),
        )
