"""Who is whose child: /proc read, processes attributed, signals sent to exactly the process that was meant."""

from __future__ import annotations

import os
import signal

from executor_shim.coordinator import linux

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MARKER = "TRIVET_RUN"
"""Environment variable that marks every process of a run, whatever session or parent it ends up with."""

_ENVIRON_READS = 5

_PREFIX = [""]

_MARKER_BYTES = MARKER.encode() + b"="


class Proc:
    """One process as /proc/PID/stat showed it."""

    __slots__ = ("pid", "ppid", "sid", "state", "threads", "ticks")

    def __init__(self, pid: int, ppid: int, sid: int, ticks: int, state: str = "S", threads: int = 1) -> None:
        self.pid = pid
        self.ppid = ppid
        self.sid = sid
        self.ticks = ticks
        """Start time, field 22: with the pid and the boot id it identifies a process for ever."""
        self.state = state
        self.threads = threads

    @property
    def lives(self) -> bool:
        """Not just an entry that waits to be reaped. A dead first thread may leave others running."""
        return self.state not in "ZX" or self.threads > 1


def parse_stat(data: bytes) -> Proc:
    """Read the content of /proc/PID/stat. The name in brackets may hold blanks and brackets itself.

    Raises:
        ValueError: it is not such a file.
    """
    head, bracket, tail = data.rpartition(b")")
    fields = tail.split()
    if not bracket or len(fields) < 20:
        raise ValueError("not the content of /proc/PID/stat")
    return Proc(
        pid=int(head.split(b" ", 1)[0]),
        ppid=int(fields[1]),
        sid=int(fields[3]),
        ticks=int(fields[19]),
        state=fields[0].decode("ascii"),
        threads=int(fields[17]),
    )


def read(pid: int) -> Proc | None:
    """One process; None when there is none, or none that we may see."""
    try:
        return parse_stat(linux.read_file(f"/proc/{pid}/stat"))
    except (OSError, ValueError):
        return None


def snapshot() -> dict[int, Proc]:
    """All processes that can be seen, zombies included."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            proc = read(int(name))
            if proc is not None:
                found[proc.pid] = proc
    return found


def own_children() -> list[int]:
    """Children of this process that have not been reaped. Exact, as nobody else can reap them meanwhile."""
    try:
        return [int(pid) for pid in linux.read_file("/proc/thread-self/children").split()]
    except FileNotFoundError:
        # A kernel without CONFIG_PROC_CHILDREN.
        me = os.getpid()
        return [proc.pid for proc in snapshot().values() if proc.ppid == me]


def marker_prefix(incarnation: str) -> str:
    """What the markers of an executor begin with: whoever has one is its own, whatever is remembered of the run."""
    return f"{incarnation}."


def mark_with(incarnation: str) -> None:
    """Sets the prefix of this process's markers."""
    _PREFIX[0] = marker_prefix(incarnation)


def new_marker() -> str:
    """A marker that no other run has."""
    return _PREFIX[0] + os.urandom(8).hex()


def marker_of(pid: int) -> str:
    """The run marker in a process's environment; empty when it has none or hides it."""
    environment = b""
    for _ in range(_ENVIRON_READS):
        try:
            environment = linux.read_file(f"/proc/{pid}/environ")
        except OSError:
            return ""
        if environment:
            break
        # In the middle of exec there is none for some microseconds.
        os.sched_yield()
    for entry in environment.split(b"\0"):
        if entry.startswith(_MARKER_BYTES):
            return entry[len(_MARKER_BYTES) :].decode("ascii", "replace")
    return ""


def roots(procs: dict[int, Proc], me: int) -> dict[int, int]:
    """For every process below `me`: the child of `me` that it descends from (or is)."""
    root: dict[int, int] = {me: 0, 0: 0}
    for start in procs:
        pid = start
        path = []
        while pid not in root:
            proc = procs.get(pid)
            if proc is None or pid in path:
                # The parent is gone from a snapshot that is never quite of one instant.
                root[pid] = 0
                break
            if proc.ppid == me:
                root[pid] = pid
                break
            path.append(pid)
            pid = proc.ppid
        for step in path:
            root[step] = root[pid]
    return {pid: top for pid, top in root.items() if top}


def below(proc: Proc, procs: dict[int, Proc], chosen: set[tuple[int, int]]) -> bool:
    """Whether a process, or a living ancestor of it, is among the chosen (pid, ticks)."""
    seen = set()
    here: Proc | None = proc
    while here is not None and here.pid not in seen:
        if (here.pid, here.ticks) in chosen:
            return True
        # A snapshot is never quite of one instant: a loop of parents must end.
        seen.add(here.pid)
        here = procs.get(here.ppid)
    return False


def members(
    procs: dict[int, Proc],
    me: int,
    owned: Callable[[int], bool],
    excluded: Iterable[int],
    pinned_sids: set[int],
    markers: set[str],
    foreign: dict[int, int],
    read_marker: Callable[[int], str] = marker_of,
) -> list[Proc]:
    """Living processes of one task.

    Args:
        procs: snapshot.
        me: pid of the coordinator.
        owned: whether a child of the coordinator belongs to the task.
        excluded: children of the coordinator that are never touched with all that is below them (driver).
        pinned_sids: sessions whose leader is a child not yet reaped, so that the number cannot have been used again.
        markers: markers of the task's runs and probes.
        foreign: pid -> ticks of processes already found not to belong to the task; extended here.
        read_marker: how to get at a process's marker.
    """
    root = roots(procs, me)
    spared = set(excluded)
    found = []
    for proc in procs.values():
        top = root.get(proc.pid, 0)
        if proc.pid == me or proc.pid <= 1 or top in spared or not proc.lives:
            continue
        if (top and owned(top)) or proc.sid in pinned_sids:
            found.append(proc)
        elif markers and foreign.get(proc.pid) != proc.ticks:
            if read_marker(proc.pid) in markers:
                found.append(proc)
            else:
                foreign[proc.pid] = proc.ticks
    return found


def send(proc: Proc, signal_number: int) -> str:
    """Signal exactly this process, never another one that got its pid since.

    Returns:
        Why it was not possible; empty when it was, or when the process is gone.
    """
    try:
        pin = os.pidfd_open(proc.pid)
    except ProcessLookupError:
        return ""
    except OSError as error:
        return f"pidfd of {proc.pid}: {error.strerror}"
    try:
        now = read(proc.pid)
        if now is not None and now.ticks == proc.ticks:
            signal.pidfd_send_signal(pin, signal_number)
    except ProcessLookupError:
        pass
    except OSError as error:
        return f"signal {signal_number} to process {proc.pid}: {error.strerror}"
    finally:
        os.close(pin)
    return ""
