"""The moment of an exec, from the kernel's process connector (root only): free of what the program does next."""

from __future__ import annotations

import os
import socket
import struct

_NETLINK_CONNECTOR = 11
_CN_IDX_PROC = 1
_LISTEN = 1
_EXEC = 2
_NETLINK_HEADER = 16
_CONNECTOR_HEADER = 20


class ExecWatch:
    """Listens for execs of all processes. Raises OSError when the kernel or the user's rights do not allow it."""

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
        while True:
            try:
                data = self._socket.recv(4096)
            except BlockingIOError:
                return found
            what, _cpu, stamp = struct.unpack_from("=IIQ", data, _NETLINK_HEADER + _CONNECTOR_HEADER)
            (process,) = struct.unpack_from("=I", data, _NETLINK_HEADER + _CONNECTOR_HEADER + 16)
            if what == _EXEC and process == pid and found is None:
                found = stamp / 1e9

    def close(self) -> None:
        """Stops listening."""
        self._socket.close()


def watch_if_allowed() -> ExecWatch | None:
    """A watch, or None without the right to have one."""
    try:
        return ExecWatch()
    except OSError:
        return None
