"""Last duty: killing what a dead coordinator has left (design: death of the coordinator).

With the linux launcher the agent destroys everything within 0.1 s. With the posix launcher it finds nothing in another
session, so the driver, which carries no parent-death signal, looks for them itself: sessions of the runs, their tags,
the marker in each run's environment, and what descends from those. A process that shed all of these cannot be told
from a stranger's, and is left alone.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from typing import TYPE_CHECKING

from executor_shim.coordinator import tag, tree

if TYPE_CHECKING:
    from collections.abc import Iterable

    from executor_shim.driver.hands import HandsTask

_LOG = logging.getLogger(__name__)
# The agent destroys the container meanwhile; a process in D state must not keep the driver for ever.
_GIVE_UP_SECS = 10.0
_PAUSE_SECS = 0.01


def kill_orphans(incarnation: str, tasks: Iterable[HandsTask]) -> None:
    """SIGKILL to everything of the tasks, until two scans in a row find nothing.

    Blocks: there is nothing else left to do.

    Args:
        incarnation: of the executor; every marker begins with it, those of probes and of forgotten runs included.
        tasks: what the coordinator had.
    """
    runs = [run for task in tasks for run in task.runs.values()]
    prefix = tree.marker_prefix(incarnation)
    # An ended run's session number may have been given to a stranger: only its marker counts.
    sessions = {run["sid"]: run["ticks"] for run in runs if run["state"] in {"forked", "running"} and run.get("sid")}
    # Tags outlive their runs: of what has ended a daemon may be left.
    tags = {tag.of(run["marker"]) for run in runs if run.get("marker")}
    deadline = time.monotonic() + _GIVE_UP_SECS
    empty_scans = 0
    while empty_scans < 2 and time.monotonic() < deadline:
        found = _scan(tree.snapshot(), sessions, tags, prefix)
        empty_scans = 0 if found else empty_scans + 1
        for proc in found:
            problem = tree.send(proc, signal.SIGKILL)
            if problem:
                _LOG.error("%s", problem)
        # Not for synchronisation: gives the killed a moment to go before they are looked for again.
        time.sleep(_PAUSE_SECS)


def _scan(procs: dict[int, tree.Proc], sessions: dict[int, int], tags: set[int], prefix: str) -> list[tree.Proc]:
    verdicts: dict[int, bool] = {os.getpid(): False, 0: False, 1: False}

    def belongs(pid: int) -> bool:
        if pid not in verdicts:
            # A snapshot is never quite of one instant: a loop of parents must end.
            verdicts[pid] = False
            proc = procs.get(pid)
            verdicts[pid] = proc is not None and (
                _in_session(proc, procs, sessions)
                or belongs(proc.ppid)
                or tree.marker_of(pid).startswith(prefix)
                or tag.read(pid) in tags
            )
        return verdicts[pid]

    return [proc for proc in procs.values() if proc.lives and belongs(proc.pid)]


def _in_session(proc: tree.Proc, procs: dict[int, tree.Proc], sessions: dict[int, int]) -> bool:
    if proc.sid not in sessions:
        return False
    # While a session has members its number is not given away: a leader of another age means another session.
    leader = procs.get(proc.sid)
    return leader is None or leader.ticks == sessions[proc.sid]
