"""Version 2: one hierarchy."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from services.local_agent.containers.cgroups import limits as rules
from services.local_agent.containers.cgroups.group import Group, counter, read, write
from services.local_agent.containers.cgroups.limits import Limits, MemoryUse
from services.local_agent.containers.cgroups.watches import FileWatch

if TYPE_CHECKING:
    from collections.abc import Collection

    from services.local_agent.containers.contract import Watch

UNLIMITED = "max"


class GroupV2(Group):
    """`<mount>/<root>/<container id>`."""

    def __init__(self, mount: str, root: str, container_id: str, *, controllers: Collection[str], cfs: bool) -> None:
        self._path = os.path.join(mount, root, container_id)
        self.directories = [self._path]
        self._controllers = controllers
        self._cfs = cfs

    def _file(self, name: str) -> str:
        return os.path.join(self._path, name)

    def set_limits(self, limits: Limits, *, first: bool) -> None:
        """See `Group`."""
        if "memory" in self._controllers and limits.memory is not None:
            current = read(self._file("memory.max")).strip()
            if first or (current != UNLIMITED and limits.memory > int(current)):
                write(self._file("memory.max"), str(limits.memory))
        if "cpu" in self._controllers and limits.cpus is not None:
            write(self._file("cpu.weight"), str(rules.weight(limits.cpus)))
            if self._cfs:
                write(self._file("cpu.max"), f"{rules.quota_usecs(limits.cpus)} {rules.PERIOD_USECS}")

    def kill_at_once(self) -> None:
        """Kernels from 5.14 on; on older ones what follows does it alone."""
        if os.path.exists(self._file("cgroup.kill")):
            write(self._file("cgroup.kill"), "1")

    def freeze(self, *, frozen: bool) -> None:
        """See `Group`. SIGKILL ends the frozen, too."""
        write(self._file("cgroup.freeze"), "1" if frozen else "0")

    def open_oom(self) -> Watch | None:
        """See `Group`."""
        if "memory" not in self._controllers:
            return None
        return FileWatch(self._file("memory.events"))

    def ooms(self) -> int:
        """See `Group`."""
        return counter(read(self._file("memory.events")), "oom") if "memory" in self._controllers else 0

    def memory_use(self) -> MemoryUse:
        """See `Group`. The peak is known from kernel 5.19 on; before, what is used now stands for it."""
        peak = "memory.peak" if os.path.exists(self._file("memory.peak")) else "memory.current"
        limit = read(self._file("memory.max")).strip()
        return MemoryUse(
            0 if limit == UNLIMITED else int(limit), int(read(self._file(peak))), read(self._file("memory.stat"))
        )
