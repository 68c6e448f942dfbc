"""Processes of executors that are still there when their container is over."""

from __future__ import annotations

import os
import select
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.local_agent.containers.process_tree import read_table

if TYPE_CHECKING:
    from collections.abc import Iterable

_SCANS = 50
_END_SECS = 5.0


@dataclass(frozen=True)
class Leftover:
    """One process, and why it should not be there any more."""

    pid: int
    command: str
    why: str

    def __str__(self) -> str:
        return f"{self.command} (pid {self.pid}): {self.why}"


class LeftoversFound(AssertionError):
    """Processes of executors were left; they have been killed."""

    def __init__(self, left: Iterable[Leftover]) -> None:
        self.leftovers = list(left)
        rows = "\n".join(f"  {row}" for row in self.leftovers)
        super().__init__(f"{len(self.leftovers)} left over at the end of the test, and killed:\n{rows}")


def kill_all(work_dir: str) -> list[Leftover]:
    """Kills every process that belongs to a sandbox of this work directory; returns what was found.

    A process belongs there when it works in a sandbox, or when its first environment names one.

    Raises:
        RuntimeError: new ones come faster than they can be killed.
    """
    found: dict[int, Leftover] = {}
    for _ in range(_SCANS):
        pids = [pid for pid in _alive() if _belongs(pid, work_dir)]
        if not pids:
            return list(found.values())
        for pid in pids:
            found.setdefault(pid, Leftover(pid, command_line(pid), "its container is over, it was left behind"))
        _kill(pids)
    raise RuntimeError(f"cannot kill all of: {', '.join(map(str, found.values()))}")


def command_line(pid: int) -> str:
    """How the process was started; empty when it is gone."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def wait_ended(pid: int, timeout: float) -> bool:
    """Waits for the end of a process; False: it still lives after `timeout` seconds."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(max(timeout, 0) * 1000))
    finally:
        os.close(pidfd)


def _alive() -> list[int]:
    return [row.pid for row in read_table() if row.state not in "ZX" and row.pid != os.getpid()]


def _belongs(pid: int, work_dir: str) -> bool:
    sandboxes = os.path.join(work_dir, "slaves") + os.sep
    try:
        if os.readlink(f"/proc/{pid}/cwd").startswith(sandboxes):
            return True
        with open(f"/proc/{pid}/environ", "rb") as file:
            return b"\0MESOS_SANDBOX=" + os.fsencode(sandboxes) in b"\0" + file.read()
    except OSError:
        # Gone, or another user's and so none of ours.
        return False


def _kill(pids: list[int]) -> None:
    deadline = time.monotonic() + _END_SECS
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    for pid in pids:
        wait_ended(pid, deadline - time.monotonic())
