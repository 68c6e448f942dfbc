"""Which processes Mesos' posix launcher finds when it destroys a container (Mesos: os::killtree).

From the executor's process: its descendants, and all members of their process groups and sessions, again and again. A
process in another session whose parent is gone is not found: that is the posix launcher's known gap, kept on purpose.
"""

from __future__ import annotations

import os
import select
import signal
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

# A fork bomb may outrun the scans; each scan stops what it finds, so a few are enough for anything else.
MAX_SCANS = 100
# So long after SIGKILL a process is in an uninterruptible sleep, and nobody waits for it any more.
KILL_SECS = 5.0


class Process(NamedTuple):
    """One row of the process table. `start_ticks`: field 22 of /proc/PID/stat, clock ticks since boot."""

    pid: int
    parent: int
    group: int
    session: int
    state: str
    start_ticks: int


def members(table: Iterable[Process], root: int) -> set[int]:
    """Pids of the tree of `root`, itself included. It may be gone: then its session and group count."""
    rows = {row.pid: row for row in table}
    found = {row.pid for row in rows.values() if root in {row.pid, row.group, row.session}}
    while True:
        groups = {rows[pid].group for pid in found}
        sessions = {rows[pid].session for pid in found}
        grown = found | {
            row.pid for row in rows.values() if row.parent in found or row.group in groups or row.session in sessions
        }
        if grown == found:
            return found
        found = grown


def read_process(pid: int) -> Process | None:
    """The process, or None when there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may hold anything.
    fields = text[text.rindex(b")") + 2 :].split()
    return Process(pid, int(fields[1]), int(fields[2]), int(fields[3]), fields[0].decode(), int(fields[19]))


def read_table() -> list[Process]:
    """All processes; those that end meanwhile may be missing."""
    rows = (read_process(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return [row for row in rows if row is not None]


def find_session_leader(variable: bytes) -> Process | None:
    """The oldest process that leads a session and has `NAME=value` in its first environment; None: there is none."""
    leaders = [row for row in read_table() if row.pid == row.session and _has_variable(row, variable)]
    return min(leaders, key=lambda row: row.start_ticks, default=None)


def kill_orphaned_session(leader: int, start_ticks: int, variable: bytes) -> set[int]:
    """Kills what is left of the session of a process that died unobserved; returns the pids. Blocks.

    A number is not given away again while a session has it, so one member that proves whose session it is proves it for
    all. Without such a member nothing is killed: the number may have come to a stranger.

    Args:
        leader: The process id, and so the session's.
        start_ticks: When it was started: a living leader with another start is a stranger.
        variable: `NAME=value` that only processes of the right session have in their first environment.
    """
    row = read_process(leader)
    if row is not None and row.start_ticks != start_ticks:
        return set()
    members_left = [row for row in read_table() if row.session == leader and row.start_ticks >= start_ticks]
    if not any(_has_variable(row, variable) for row in members_left):
        return set()
    return kill_tree(leader, spare_root=True)


def _has_variable(row: Process, variable: bytes) -> bool:
    """Whether a process that runs has `NAME=value` in its first environment."""
    if row.state in "ZX":
        return False
    try:
        with open(f"/proc/{row.pid}/environ", "rb") as file:
            return variable in file.read().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        # Gone, or another user's and so none of ours.
        return False


def kill_tree(root: int, *, spare_root: bool = False) -> set[int]:
    """Stops, then kills the tree of `root`; returns the pids when they have ended. Blocks.

    Args:
        root: Process id of the executor, which leads a session of its own.
        spare_root: Do not signal `root` itself: it is gone, and its number may be another's by now.
    """
    own = read_process(os.getpid())
    # A session that this process belongs to can never be a container's.
    spared = {os.getpid(), 1} | ({root} if spare_root else set())
    stopped: set[int] = set()
    for _ in range(MAX_SCANS):
        table = read_table()
        alive = {row.pid for row in table if row.state not in "ZX" and (own is None or row.session != own.session)}
        fresh = (members(table, root) & alive) - spared - stopped
        if not fresh:
            break
        for pid in fresh:
            _signal(pid, signal.SIGSTOP)
        stopped |= fresh
    watched = [pidfd for pidfd in map(_open, stopped) if pidfd is not None]
    for pid in stopped:
        _signal(pid, signal.SIGKILL)
    _wait_for_ends(watched)
    return stopped


def _open(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def _wait_for_ends(pidfds: list[int]) -> None:
    """Closes the descriptors once their processes have ended, or `KILL_SECS` have passed."""
    poll = select.poll()
    for pidfd in pidfds:
        poll.register(pidfd, select.POLLIN)
    waiting = set(pidfds)
    deadline = time.monotonic() + KILL_SECS
    while waiting:
        ended = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        if not ended:
            break
        for pidfd, _ in ended:
            poll.unregister(pidfd)
            waiting.discard(pidfd)
    for pidfd in pidfds:
        os.close(pidfd)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        # It ended between the scan and now.
        return
