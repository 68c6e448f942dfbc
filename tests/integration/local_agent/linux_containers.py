"""Which kinds of containers this machine allows, found out without the agent's own code; and a look at them."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.integration.local_agent.rig import AgentUnderTest, wait_gone

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_numbers = itertools.count()
V1 = ("--launcher=linux", "--cgroups-version=1")
V2 = ("--launcher=linux", "--cgroups-version=2", "--isolation=namespaces/pid")
# Without a namespace the cgroup alone has to find everything.
V1_CGROUP_ONLY = (*V1, "--isolation=cgroups/mem")
V2_CGROUP_ONLY = ("--launcher=linux", "--cgroups-version=2", "--isolation=")
KINDS = {"v1": V1, "v2": V2, "v1-cgroup-only": V1_CGROUP_ONLY, "v2-cgroup-only": V2_CGROUP_ONLY}


def hierarchies() -> dict[str, str]:
    """Mount points by controller; `v2`: the unified one."""
    found = {}
    with open("/proc/mounts") as file:
        for line in file:
            _, path, kind, options, *_ = line.split()
            if kind == "cgroup2":
                found["v2"] = path
            elif kind == "cgroup":
                found |= dict.fromkeys(options.split(","), path)
    return found


def require(flags: Sequence[str]) -> None:
    """Skips the test, loudly, where the machine does not allow such containers."""
    if os.geteuid():
        pytest.skip("NOT ROOT: containers of the linux launcher are not tested here")
    found = hierarchies()
    wanted = ("v2",) if "--cgroups-version=2" in flags else ("freezer", "memory", "cpu", "cpuacct")
    for name in wanted:
        if name not in found:
            pytest.skip(f"NO CGROUP HIERARCHY {name}: containers of the linux launcher are not tested here")
        probe = f"{found[name]}/tvt-probe-{os.getpid()}"
        try:
            os.mkdir(probe)
        except OSError as error:
            pytest.skip(f"CGROUPS ARE NOT WRITABLE ({error}): containers of the linux launcher are not tested here")
        os.rmdir(probe)
    with open("/proc/self/status") as file:
        capabilities = file.read().partition("CapEff:\t")[2].split()[0]
    if not int(capabilities, 16) >> 21 & 1:
        pytest.skip("NO CAP_SYS_ADMIN: containers of the linux launcher are not tested here")


class LinuxAgent(AgentUnderTest):
    """An agent with a cgroup root of its own, of which nothing may be left at the end."""

    def __init__(self, directory: Path, *flags: str) -> None:
        require(flags)
        self.root = f"tvt-{os.getpid()}-{next(_numbers)}"
        super().__init__(directory, *flags, f"--cgroups-root={self.root}")

    def __exit__(self, *details: object) -> None:
        try:
            super().__exit__(*details)
        finally:
            left = self.cgroups()
            # A failed test must not leave them to the machine.
            for path in reversed(left):
                _clear(path)
        assert not left

    def cgroups(self) -> list[str]:
        """All directories of this agent, the root's own included."""
        return self.below(self.root)

    @staticmethod
    def below(root: str) -> list[str]:
        """All directories of a --cgroups-root, its own included, in all hierarchies."""
        found = []
        for mount in set(hierarchies().values()):
            found += [path for path, _, _ in os.walk(os.path.join(mount, root))]
        return found

    def cgroup_file(self, controller: str, container_id: str, name: str) -> str:
        with open(os.path.join(hierarchies()[controller], self.root, container_id, name)) as file:
            return file.read().strip()


def _clear(path: str) -> None:
    with open(f"{path}/cgroup.procs") as file:
        pids = [int(line) for line in file]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    if os.path.exists(f"{path}/freezer.state"):
        with open(f"{path}/freezer.state", "w") as file:
            file.write("THAWED")
    for pid in pids:
        wait_gone(pid)
    with contextlib.suppress(OSError):
        os.rmdir(path)


def namespaced_pids(pid: int) -> list[int]:
    """The process' numbers, from the outermost namespace to its own."""
    with open(f"/proc/{pid}/status") as file:
        lines = dict(line.rstrip("\n").split(":", 1) for line in file)
    return [int(number) for number in lines["NSpid"].split()]


def descendants(pid: int) -> Iterator[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        for child in map(int, file.read().split()):
            yield child
            yield from descendants(child)


def named(agent: AgentUnderTest, *commands: str) -> list[int]:
    """Living processes of the agent's containers that have one of these command lines."""
    found = []
    for row in agent.processes():
        try:
            with open(f"/proc/{row.pid}/cmdline", "rb") as file:
                line = file.read().rstrip(b"\0").replace(b"\0", b" ").decode()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if line in commands:
            found.append(row.pid)
    return found
