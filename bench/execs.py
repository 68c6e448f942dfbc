"""Moments of forks, execs and exits, from the kernel's process connector (root only): free of what programs do next."""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_NETLINK_CONNECTOR = 11
_CN_IDX_PROC = 1
_LISTEN = 1
_FORK = 1
_EXEC = 2
_EXIT = 0x80000000
_NETLINK_HEADER = 16
_CONNECTOR_HEADER = 20


class ExecWatch:
    """Listens for forks, execs and exits of all processes.

    Raises:
        OSError: the kernel or the user's rights do not allow it.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_CONNECTOR)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.bind((os.getpid(), _CN_IDX_PROC))
        self._socket.setblocking(False)
        message = struct.pack("=IIIIHHI", _CN_IDX_PROC, 1, 0, 0, 4, 0, _LISTEN)
        header = struct.pack("=IHHII", _NETLINK_HEADER + len(message), 3, 0, 0, os.getpid())
        self._socket.send(header + message)

    def first_exec(self, pid: int) -> float | None:
        """CLOCK_MONOTONIC of the first exec of a process since the last call, seconds; None: it was not seen."""
        found = None
        for what, process, at in self._events():
            if what == _EXEC and process == pid and found is None:
                found = at
        return found

    def exit_to_fork(self, first: int, second: int) -> float | None:
        """Seconds from the exit of one process to the fork of another since the last call; None: not both were seen."""
        ended = forked = None
        for what, process, at in self._events():
            if what == _EXIT and process == first:
                ended = at
            elif what == _FORK and process == second:
                forked = at
        return None if ended is None or forked is None else forked - ended

    def forget(self) -> None:
        """Makes room: nothing of what has happened until now is asked for."""
        for _ in self._events():
            pass

    def _events(self) -> Iterator[tuple[int, int, float]]:
        """What has come: the kind, the process (of a fork: the child), CLOCK_MONOTONIC in seconds."""
        while True:
            try:
                data = self._socket.recv(4096)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                # More has happened than the buffer holds; what it holds is still to be read.
                continue
            what, _cpu, stamp = struct.unpack_from("=IIQ", data, _NETLINK_HEADER + _CONNECTOR_HEADER)
            # Of a fork, the parent's thread and process come first.
            place = _NETLINK_HEADER + _CONNECTOR_HEADER + (24 if what == _FORK else 16)
            (process,) = struct.unpack_from("=I", data, place)
            yield what, process, stamp / 1e9

    def close(self) -> None:
        """Stops listening."""
        self._socket.close()


def watch_if_allowed() -> ExecWatch | None:
    """A watch, or None without the right to have one."""
    try:
        return ExecWatch()
    except OSError:
        return None
