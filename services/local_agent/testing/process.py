"""The agent's process."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

START_SECS = 60.0
_STOP_SECS = 30.0
_TAIL_BYTES = 4000
# Asks the kernel for SIGINT when the parent dies, so that a killed test run leaves neither agent nor executors behind,
# then becomes the agent. Not a preexec_fn: that would fork this process, which has gRPC's threads.
_TIED = """\
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGINT, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


class AgentDied(Exception):
    """The agent did not start, or has ended by itself; the text shows the end of its log."""


class AgentProcess:
    """One `trivet-agent`; its log is DIRECTORY/agent.log. `start` and `stop` each once."""

    def __init__(self, directory: str, flags: Sequence[str]) -> None:
        self.directory = directory
        # Called from another thread when the process has ended, whatever for.
        self.on_end: Callable[[AgentDied], None] = lambda _: None
        self.log_path = os.path.join(directory, "agent.log")
        self.description: dict[str, object] = {}
        self._flags = list(flags)
        self._process: subprocess.Popen[bytes] | None = None
        # A line of its stdout; None: it has ended.
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader: threading.Thread | None = None

    @property
    def work_dir(self) -> str:
        """The agent's --work-dir, which is its run directory too."""
        return os.path.join(self.directory, "agent")

    @property
    def socket_path(self) -> str:
        """The control socket."""
        return os.path.join(self.work_dir, "agent.sock")

    @property
    def pid(self) -> int:
        """Process id; stays over `RestartAgent`."""
        if self._process is None:
            raise AgentDied("the agent was not started")
        return self._process.pid

    def start(self) -> None:
        """Returns when executors may connect.

        Raises:
            AgentDied: it does not start.
        """
        # -P: a directory `services` where the tests stand is not ours.
        agent = [sys.executable, "-P", "-m", "services.local_agent", "--work-dir", self.work_dir, *self._flags]
        with open(self.log_path, "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid()), *agent],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                # The terminal's Ctrl-C is for the test run, which then stops the agent in order.
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, name="agent's stdout", daemon=True)
        self._reader.start()
        self.wait_listening(START_SECS)

    def wait_listening(self, timeout: float) -> None:
        """Returns when the agent says the next time that it listens: after its start, and after each restart.

        Raises:
            AgentDied: it has ended, or does not say it.
        """
        while True:
            try:
                line = self._lines.get(timeout=timeout)
            except queue.Empty:
                raise AgentDied(f"the agent does not listen after {timeout:g} s; {self.tail()}") from None
            if line is None:
                raise self._died()
            if line.startswith("trivet-agent ready:"):
                break
        with open(os.path.join(self.work_dir, "agent.json")) as file:
            self.description = json.load(file)

    def send_signal(self, number: signal.Signals) -> None:
        """A signal to the process, if it is still there."""
        if self._process is not None:
            self._process.send_signal(number)

    def stop(self) -> int | None:
        """SIGINT: the agent destroys its executors and ends. SIGKILL when that takes too long.

        Returns:
            The exit status; None: it was never started.
        """
        if self._process is None:
            return None
        # One that a test has stopped hears of SIGINT only when it goes on.
        for number in (signal.SIGINT, signal.SIGCONT):
            self._process.send_signal(number)
        try:
            status = self._process.wait(_STOP_SECS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        if self._reader is not None:
            self._reader.join(_STOP_SECS)
        return status

    def tail(self) -> str:
        """The end of its log, for messages."""
        return f"its log ends with:\n{tail(self.log_path)}"

    def _read(self) -> None:
        process = self._process
        if process is None or process.stdout is None:
            raise RuntimeError("start first")
        with process.stdout as lines:
            for line in lines:
                self._lines.put(line.decode(errors="replace"))
        process.wait()
        self._lines.put(None)
        self.on_end(self._died())

    def _died(self) -> AgentDied:
        status = None if self._process is None else self._process.returncode
        return AgentDied(f"the agent has ended with status {status}; {self.tail()}")


def tail(path: str, size: int = _TAIL_BYTES) -> str:
    """The last bytes of a file as text; a file that cannot be read says so."""
    try:
        with open(path, "rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - size))
            text = file.read().decode(errors="replace").rstrip("\n")
    except OSError as error:
        return f"({path}: {error.strerror})"
    return f"(... {end - size} bytes before)\n{text}" if end > size else text
