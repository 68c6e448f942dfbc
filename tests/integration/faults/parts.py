"""A part of the stack as a process, and the FIFOs by which tasks wait for the test."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from tests.integration.faults.processes import TIMEOUT
from tests.integration.ready import readable

if TYPE_CHECKING:
    from collections.abc import Sequence


class Part:
    """One process that the test started."""

    def __init__(self, name: str, argv: Sequence[str], log: str) -> None:
        self.name = name
        self.argv = argv
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def send(self, signum: int) -> None:
        assert self.process is not None
        self.process.send_signal(signum)

    def kill(self) -> None:
        """SIGKILL, and gone when this returns."""
        self.send(signal.SIGKILL)
        assert self.process is not None
        self.process.wait(TIMEOUT)

    def stop(self, signum: int = signal.SIGTERM) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signum)
        return self.process.wait(TIMEOUT)


class Gate:
    """A FIFO on which a process of the task waits (`cat GATE`) or reports (`echo ... > GATE`)."""

    def __init__(self, path: str) -> None:
        self.path = path
        os.mkfifo(path, 0o666)
        os.chmod(path, 0o666)
        # Both ends open: neither side ever sees end-of-file or blocks in open().
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._buffer = b""

    def open(self, text: str = "go") -> None:
        os.write(self._fd, text.encode() + b"\n")

    def read(self, timeout: float = TIMEOUT) -> str:
        """The next line that a process wrote."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            assert readable(self._fd, max(deadline - time.monotonic(), 0)), f"nothing came through {self.path}"
            self._buffer += os.read(self._fd, 4096)
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode()

    def close(self) -> None:
        os.close(self._fd)
