"""What /proc tells of processes, and waiting for it."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any

from tests.integration.ready import readable

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUT = 30.0


def wait_until(condition: Callable[[], Any], what: str, timeout: float = TIMEOUT) -> Any:
    """For facts of /proc, which cannot be waited for otherwise."""
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout} s for {what}")
        pause.wait(0.01)
    return value


def wait_dead(pid: int, timeout: float = TIMEOUT) -> None:
    """Until a process that is not our child is gone."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert readable(fd, timeout), f"process {pid} lives on: {command_line(pid)}"
    finally:
        os.close(fd)


def children_of(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(child) for child in file.read().split()]
    except FileNotFoundError:
        return []


def command_line(pid: int) -> str:
    return _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace")


def start_ticks(pid: int) -> int:
    """Identifies a process together with its pid; 0 when it is gone or a zombie."""
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return int(fields[19]) if fields and fields[0] not in {b"Z", b"X"} else 0


def leftovers(directory: str) -> dict[int, str]:
    """Processes that have to do with a stack: by command line, environment or working directory."""
    name = directory.encode()
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid() or not start_ticks(int(entry)):
            continue
        pid = int(entry)
        try:
            cwd = os.readlink(f"/proc/{pid}/cwd").encode()
        except OSError:
            cwd = b""
        if name in _read(pid, "cmdline") or name in _read(pid, "environ") or name in cwd:
            found[pid] = command_line(pid)
    return found


def _read(pid: int, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:
        return b""
