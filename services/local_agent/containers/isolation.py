"""Flags of the launchers in Mesos' words, and what they demand of the machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

LAUNCHERS = ("posix", "linux")
# Of version 1; version 2 has no freezer and no cpuacct.
CONTROLLERS: Mapping[str, tuple[str, ...]] = {
    "cgroups/cpu": ("cpu", "cpuacct"),
    "cgroups/mem": ("memory",),
    "cgroups/pids": ("pids",),
}
# They change nothing here: nothing is measured, and every container has the host's files.
WITHOUT_EFFECT = ("posix/cpu", "posix/mem", "filesystem/posix")
NAMESPACES = ("namespaces/pid", "filesystem/linux")
DEFAULTS: Mapping[str, str] = {
    "posix": "posix/cpu,posix/mem",
    "linux": "cgroups/cpu,cgroups/mem,namespaces/pid",
}


@dataclass(frozen=True)
class Isolation:
    """What a container gets of its own. `controllers` in version 1's names, without the freezer."""

    controllers: tuple[str, ...] = ()
    pid_namespace: bool = False
    mount_namespace: bool = False


@dataclass(frozen=True)
class LauncherFlags:
    """Everything on the command line that launchers look at. `cgroups_version`: auto, 1 or 2."""

    launcher: str = "posix"
    isolation: Isolation = Isolation()
    cgroups_root: str = "mesos"
    cgroups_version: str = "auto"
    enable_cfs: bool = False
    switch_user: bool = True


def parse(text: str, launcher: str) -> Isolation:
    """The list of --isolation.

    Raises:
        ValueError: Names the word that is unknown or not for this launcher.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if word in WITHOUT_EFFECT:
            continue
        if word not in CONTROLLERS and word not in NAMESPACES:
            raise ValueError(f"{word!r}: not one of {', '.join((*CONTROLLERS, *NAMESPACES, *WITHOUT_EFFECT))}")
        if launcher != "linux":
            raise ValueError(f"{word!r} needs --launcher=linux")
    controllers = [name for word in words for name in CONTROLLERS.get(word, ())]
    return Isolation(tuple(dict.fromkeys(controllers)), "namespaces/pid" in words, not {*NAMESPACES}.isdisjoint(words))


def check_root(name: str) -> str:
    """The value of --cgroups-root.

    Raises:
        ValueError: Not a relative path below the hierarchy's root.
    """
    parts = name.split("/")
    if any(part in {"", ".", ".."} for part in parts) or not name.isprintable():
        raise ValueError(f"{name!r}: expected a name such as mesos, or a/path/below without leading slash")
    return name
