"""Processes with what they use, from /proc/PID/stat. By hand: psutil would cost the driver more than it measures."""

from __future__ import annotations

import os

from executor_shim.coordinator import linux, tree

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Stat(tree.Proc):
    """A process and what it uses."""

    __slots__ = ("cpu", "rss")

    def __init__(
        self,
        pid: int,
        ppid: int,
        sid: int,
        ticks: int,
        *,
        state: str = "S",
        threads: int = 1,
        cpu: float = 0.0,
        rss: int = 0,
    ) -> None:
        super().__init__(pid, ppid, sid, ticks, state, threads)
        self.cpu = cpu
        """Seconds, user and system, its own and those of children that it has waited for."""
        self.rss = rss
        """Bytes."""


def parse(data: bytes) -> Stat:
    """Read the content of /proc/PID/stat (man 5 proc: fields 14 to 17 are times, 24 is rss in pages).

    Raises:
        ValueError: it is not such a file.
    """
    proc = tree.parse_stat(data)
    fields = data.rpartition(b")")[2].split()
    if len(fields) < 22:
        raise ValueError("not the content of /proc/PID/stat")
    return Stat(
        proc.pid,
        proc.ppid,
        proc.sid,
        proc.ticks,
        state=proc.state,
        threads=proc.threads,
        cpu=sum(int(field) for field in fields[11:15]) / _TICKS,
        rss=int(fields[21]) * _PAGE,
    )


def snapshot() -> dict[int, Stat]:
    """All processes that can be seen, zombies included: their times are in nobody else's yet."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            stat = parse(linux.read_file(f"/proc/{name}/stat"))
        except (OSError, ValueError):
            # It has ended meanwhile.
            continue
        found[stat.pid] = stat
    return found
