"""Mesos' posix launcher: an executor is a plain child in a session of its own; destroy kills its process tree."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from services.local_agent.containers import helper
from services.local_agent.containers import sandbox as sandboxes
from services.local_agent.containers.contract import Forked
from services.local_agent.containers.launcher import Launcher
from services.local_agent.containers.process_tree import (
    find_session_leader,
    kill_orphaned_session,
    kill_tree,
    read_process,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mesos.v1 import mesos_pb2
    from services.local_agent.containers.contract import Child, Command, Limitation, Watch
    from services.local_agent.containers.launcher import Container


class PosixLauncher(Launcher):
    """Limits nothing, and destroys what session and process tree tell."""

    def _start(
        self, container_id: str, sandbox: str, command: Command, resources: Sequence[mesos_pb2.Resource]
    ) -> Child:
        del container_id, resources
        sandboxes.make(sandbox, command.user)
        if command.user is not None:
            # Only a process of its own may change the user: see _spawn.
            return helper.start(sandbox, command, helper.Plan())
        return _Running(_spawn(sandbox, command))

    def _kill(self, container: Container, *, first_is_gone: bool) -> set[int]:
        return kill_tree(container.pid, spare_root=first_is_gone)

    def find(self, container_id: str, sandbox: str) -> Forked | None:
        """The agent was killed between fork and log: the session's leader has the sandbox in its environment."""
        del container_id
        leader = find_session_leader(_marker(sandbox))
        return Forked(leader.pid, leader.start_ticks) if leader else None

    def kill_orphans(self, pid: int, start_ticks: int, sandbox: str) -> set[int]:
        """See `Launcher`; only the session, and only while one of it has the sandbox in its environment."""
        return kill_orphaned_session(pid, start_ticks, _marker(sandbox))

    def _clean_up(self, container_id: str) -> None:
        """Nothing was made but the sandbox, which stays."""

    def _limitation(self, container: Container, *, woken: bool) -> Limitation | None:
        del container, woken
        return None

    def _watches(self, container: Container) -> list[Watch]:
        del container
        return []

    def update(self, container_id: str, resources: Sequence[mesos_pb2.Resource]) -> None:
        """Nothing is limited."""

    async def remove_unknown(self) -> None:
        """Cannot be done: who is not in the log is not found (as in Mesos, flow restart-nocheckpoint)."""


def _marker(sandbox: str) -> bytes:
    """What a container's processes have in their environment, and nobody else has: the id of the run is in it."""
    return os.fsencode(f"MESOS_DIRECTORY={sandbox}")


class _Running:
    """A child that is the executor already."""

    def __init__(self, pid: int) -> None:
        row = read_process(pid)
        self.forked = Forked(pid, row.start_ticks if row else 0)

    def go(self) -> None:
        """See `contract.Child`."""

    def close(self) -> None:
        """See `contract.Child`."""


def _spawn(sandbox: str, command: Command) -> int:
    out, err = sandboxes.open_output(sandbox, None)
    try:
        # No user, group or preexec_fn: they would mean fork() instead of vfork(), unsafe beside gRPC's threads.
        process = subprocess.Popen(
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
    # Reaped through its pidfd; Popen must not do it when some other process is started.
    process.returncode = 0
    return process.pid
