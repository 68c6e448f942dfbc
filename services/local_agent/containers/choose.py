"""The launcher that the flags name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.local_agent.containers.linux import LinuxLauncher
from services.local_agent.containers.posix import PosixLauncher

if TYPE_CHECKING:
    from services.local_agent.containers.contract import Reports
    from services.local_agent.containers.isolation import LauncherFlags
    from services.local_agent.containers.launcher import Launcher


def make(reports: Reports, flags: LauncherFlags, work_dir: str) -> Launcher:
    """The launcher of an agent.

    Raises:
        LauncherUnavailable: This machine does not allow what the flags ask for; says why.
    """
    if flags.launcher == "linux":
        return LinuxLauncher(reports, flags, work_dir)
    return PosixLauncher(reports)
