"""The cgroups of this machine: which version is used, whether that is possible, and groups by container id."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from services.local_agent.containers.cgroups.group import read, write
from services.local_agent.containers.cgroups.v1 import GroupV1
from services.local_agent.containers.cgroups.v2 import GroupV2
from services.local_agent.containers.contract import LauncherUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from services.local_agent.containers.cgroups import mounts
    from services.local_agent.containers.cgroups.group import Group
    from services.local_agent.containers.cgroups.mounts import Mounts
    from services.local_agent.containers.isolation import LauncherFlags

_INSTEAD = "or use --launcher=posix"
# Version 2 counts CPU time by itself and freezes without a controller.
_V2_NEEDS_NO = frozenset({"cpuacct", "freezer"})


class Host(Protocol):
    """One machine's hierarchies."""

    def group(self, container_id: str) -> Group:
        """The cgroups of a container, whether they exist or not."""

    def prepare(self) -> None:
        """Makes the agent's own part.

        Raises:
            LauncherUnavailable: It cannot be made.
        """

    def tidy(self) -> None:
        """Removes the agent's own part if no container is in it."""


def choose(flags: LauncherFlags, mounted: Mounts) -> Host:
    """Version 1 where all that is needed is mounted, else version 2.

    Raises:
        LauncherUnavailable: Neither will do.
    """
    wanted = ("freezer", *flags.isolation.controllers)
    why_not = []
    if flags.cgroups_version in {"auto", "1"}:
        missing = [name for name in wanted if name not in mounted.v1]
        if not missing:
            return HostV1({name: mounted.v1[name] for name in wanted}, flags)
        why_not.append(f"version 1: no hierarchy with {', '.join(missing)} is mounted")
    if flags.cgroups_version in {"auto", "2"}:
        if mounted.v2 is None:
            why_not.append("version 2: not mounted")
        else:
            needed = [name for name in flags.isolation.controllers if name not in _V2_NEEDS_NO]
            missing = [name for name in needed if name not in _available(mounted.v2)]
            if not missing:
                return HostV2(mounted.v2, needed, flags)
            why_not.append(f"version 2: {mounted.v2.path} has no controller {', '.join(missing)}")
    text = "; ".join(why_not)
    raise LauncherUnavailable(f"cgroups {text}. Mount them, leave them out of --isolation, {_INSTEAD}")


def _available(mount: mounts.Mount) -> list[str]:
    try:
        return read(os.path.join(mount.path, "cgroup.controllers")).split()
    except OSError as error:
        raise LauncherUnavailable(f"cgroups version 2: {error}; {_INSTEAD}") from error


class HostV1:
    """One hierarchy for each controller."""

    def __init__(self, hierarchies: Mapping[str, mounts.Mount], flags: LauncherFlags) -> None:
        self._mounts = hierarchies
        self._flags = flags

    def group(self, container_id: str) -> Group:
        """See `Host`."""
        paths = {name: mount.path for name, mount in self._mounts.items()}
        return GroupV1(paths, self._flags.cgroups_root, container_id, cfs=self._flags.enable_cfs)

    def _roots(self) -> Sequence[str]:
        return [os.path.join(path, self._flags.cgroups_root) for path in {m.path for m in self._mounts.values()}]

    def prepare(self) -> None:
        """See `Host`."""
        for mount in self._mounts.values():
            _make(os.path.join(mount.path, self._flags.cgroups_root), mount)

    def tidy(self) -> None:
        """See `Host`."""
        for root in self._roots():
            _remove_empty(root)


class HostV2:
    """The unified hierarchy."""

    def __init__(self, mount: mounts.Mount, controllers: Sequence[str], flags: LauncherFlags) -> None:
        self._mount = mount
        self._controllers = controllers
        self._flags = flags

    def group(self, container_id: str) -> Group:
        """See `Host`."""
        return GroupV2(
            self._mount.path,
            self._flags.cgroups_root,
            container_id,
            controllers=self._controllers,
            cfs=self._flags.enable_cfs,
        )

    def prepare(self) -> None:
        """See `Host`."""
        path = self._mount.path
        root = os.path.join(path, self._flags.cgroups_root)
        _make(root, self._mount)
        if not self._controllers:
            return
        relative = self._flags.cgroups_root.split("/")
        # Each level has to hand controllers on to the next.
        for depth in range(len(relative) + 1):
            control = os.path.join(path, *relative[:depth], "cgroup.subtree_control")
            try:
                write(control, " ".join(f"+{name}" for name in self._controllers))
            except OSError as error:
                raise LauncherUnavailable(
                    f"cgroups version 2: {control}: {error.strerror}. The controllers {', '.join(self._controllers)} "
                    f"cannot be handed on; there may be processes in that cgroup: give --cgroups-root=NAME below one "
                    f"that was delegated, {_INSTEAD}"
                ) from error

    def tidy(self) -> None:
        """See `Host`."""
        _remove_empty(os.path.join(self._mount.path, self._flags.cgroups_root))


def _make(root: str, mount: mounts.Mount) -> None:
    if mount.read_only:
        raise LauncherUnavailable(
            f"{mount.path} is mounted read-only: mount -o remount,rw {mount.path} (in a container: run it privileged, "
            f"with the host's cgroups), {_INSTEAD}"
        )
    try:
        os.makedirs(root, exist_ok=True)
    except OSError as error:
        raise LauncherUnavailable(f"{root}: {error.strerror}; {_INSTEAD}") from error


def _remove_empty(root: str) -> None:
    try:
        os.rmdir(root)
    except OSError:
        # Containers live in it, or another agent uses it, or has removed it.
        return
