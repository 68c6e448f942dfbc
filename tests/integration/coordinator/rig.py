"""A real coordinator process under test, and a double of its driver.

The double is a real process, started by the coordinator like any driver. It hands its end of the socketpair to the
test, which then speaks the protocol, and waits: so it can be frozen and killed like the real one.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from executor_shim.coordinator.wire import Channel
from tests.integration.ready import readable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PATIENCE = 20.0
"""Seconds after which a test gives up waiting. Nothing that passes ever waits so long."""

DOUBLE = """
import array, json, os, socket, sys
control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
control.connect(sys.argv[1])
fds = [int(sys.argv[sys.argv.index("--fd") + 1])]
for name in ("--state-fds", "--token-fd", "--stream-fd"):
    fds += [int(fd) for fd in sys.argv[sys.argv.index(name) + 1].split(",") if fd != "-1"]
hello = {"pid": os.getpid(), "argv": sys.argv[2:], "environ": dict(os.environ)}
control.sendmsg([json.dumps(hello).encode() + b"\\n"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
for fd in fds:
    os.close(fd)
word = control.recv(100)
sys.exit(int(word) if word else 0)
"""

Event = dict[str, Any]


class DriverDouble:
    """The test's hold on one driver double."""

    def __init__(self, control: socket.socket, hello: dict[str, Any], fds: list[int]) -> None:
        self.control = control
        self.pid: int = hello["pid"]
        self.argv: list[str] = hello["argv"]
        self.environ: dict[str, str] = hello["environ"]
        self.state_fds = fds[1:3]
        token, stream = self.option("--token-fd"), self.option("--stream-fd")
        rest = fds[3:]
        self.token_fd = rest.pop(0) if token != "-1" else -1
        self.stream_fd = rest.pop(0) if stream != "-1" else -1
        self.channel = Channel(socket.socket(fileno=fds[0]))
        self.events: list[Event] = []
        self._seen = 0
        self._open = [*self.state_fds, self.token_fd, self.stream_fd]

    def option(self, name: str) -> str:
        return self.argv[self.argv.index(name) + 1]

    def send(self, op: str, fd: int = -1, **fields: Any) -> None:
        self.channel.send({"op": op, **fields}, fd)

    def read(self, seconds: float) -> None:
        """Read what comes within some seconds, at least once."""
        readable(self.channel, seconds)
        self.channel.receive()
        while (event := self.channel.take()) is not None:
            self.events.append(event)

    def wait(self, wanted: Callable[[Event], bool], patience: float = PATIENCE) -> Event:
        """The next event that is wanted; those before it are skipped (and stay in `events`)."""
        end = time.monotonic() + patience
        while True:
            while self._seen < len(self.events):
                event = self.events[self._seen]
                self._seen += 1
                if wanted(event):
                    return event
            if self.channel.eof or time.monotonic() > end:
                raise AssertionError(f"not seen (eof={self.channel.eof}), got: {self.events[-12:]}")
            self.send("beat")
            self.read(0.5)

    def run_event(self, state: str, process: str = "p", run: int = 0, task: str = "t") -> Event:
        return self.wait(
            lambda e: (
                e["ev"] == "run"
                and e["task"] == task
                and (e["run"]["process"], e["run"]["run"], e["run"]["state"]) == (process, run, state)
            )
        )

    def empty(self, task: str = "t") -> Event:
        return self.wait(lambda e: e["ev"] == "task" and e["task"] == task and e["alive"] == 0)

    def event(self, kind: str) -> Event:
        return self.wait(lambda e: e["ev"] == kind)

    def exit(self, code: int) -> None:
        """Let the double exit."""
        self.control.sendall(str(code).encode())

    def close(self) -> None:
        self.channel.close()
        self.control.close()
        for fd in self._open:
            if fd >= 0:
                os.close(fd)


class Rig:
    """One coordinator."""

    def __init__(
        self,
        directory: Path,
        *options: str,
        env: dict[str, str] | None = None,
        python: str = sys.executable,
        wrapper: Sequence[str] = (),
        **popen: Any,
    ) -> None:
        self.id = uuid.uuid4().hex
        self.sandbox = directory / "mesos"
        self.sandbox.mkdir()
        self._directory = directory
        self._control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._control.bind(str(directory / "c"))
        (directory / "c").chmod(0o777)
        self._control.listen(50)
        self._control.settimeout(PATIENCE)
        self._drivers: list[DriverDouble] = []
        double = json.dumps([python, "-I", "-S", "-c", DOUBLE, str(directory / "c")])
        self.log = directory / "coordinator.stderr"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [python, *wrapper, "-m", "executor_shim", "--services", "/nowhere", "--driver-argv", double, *options],
                env={"PATH": os.environ["PATH"], "TEST_RIG": self.id, **(env or {})},
                stdin=subprocess.DEVNULL,
                stderr=log,
                **popen,
            )
        self.pid = self.process.pid

    def driver(self) -> DriverDouble:
        """The next driver double that the coordinator starts."""
        control, _ = self._control.accept()
        control.settimeout(PATIENCE)
        data, fds = b"", array.array("i")
        while not data.endswith(b"\n"):
            part, beside, _flags, _address = control.recvmsg(1 << 16, socket.CMSG_SPACE(32))
            data += part
            for _level, _kind, content in beside:
                fds.frombytes(content[: len(content) - len(content) % 4])
        driver = DriverDouble(control, json.loads(data), list(fds))
        self._drivers.append(driver)
        return driver

    def command(self, cmdline: str | list[str], **changes: Any) -> dict[str, Any]:
        """Fields of a start."""
        return {
            "task": "t",
            "process": "p",
            "run": 0,
            "argv": ["/bin/bash", "-c", cmdline] if isinstance(cmdline, str) else cmdline,
            "env": {"PATH": "/usr/bin:/bin", "TEST_RIG": self.id},
            "cwd": "sandbox",
            "user": "",
            "stdout": ".logs/p/0/stdout",
            "stderr": ".logs/p/0/stderr",
            "profile": "",
            "sandbox": str(self.sandbox),
            "logging": {"console": False, "limit": 0, "backups": 0},
            **changes,
        }

    def probe(self, cmdline: str | list[str], **changes: Any) -> dict[str, Any]:
        """Fields of a command probe."""
        fields = {**self.command(cmdline), "id": "i", "timeout": PATIENCE, **changes}
        names = ("id", "task", "argv", "env", "cwd", "user", "profile", "timeout", "sandbox")
        return {name: fields[name] for name in names}

    def stdout(self, process: str = "p", run: int = 0) -> str:
        return (self.sandbox / ".logs" / process / str(run) / "stdout").read_text()

    def wait_for_file(self, name: str) -> str:
        """Content of a file in the sandbox once a task has written a whole line to it."""
        path = self.sandbox / name
        wait_until(lambda: path.exists() and path.read_text().endswith("\n"))
        return path.read_text()

    def ours(self) -> dict[int, str]:
        """All processes that carry this rig's mark, with their command lines. The coordinator is among them."""
        mark = b"TEST_RIG=" + self.id.encode()
        found = {}
        for name in os.listdir("/proc"):
            if name.isdigit():
                with contextlib.suppress(OSError):
                    if mark in Path(f"/proc/{name}/environ").read_bytes():
                        found[int(name)] = Path(f"/proc/{name}/cmdline").read_text().replace("\0", " ")
        return found

    def finish(self) -> None:
        """End the coordinator in order, if the test has not."""
        if self.process.poll() is None:
            self._drivers[-1].send("end", code=0)
            self._drivers[-1].exit(0)
            assert self.process.wait(PATIENCE) == 0

    def close(self) -> None:
        for driver in self._drivers:
            driver.close()
        self._control.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)
        for pid in self.ours():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def wait_until(condition: Callable[[], Any], patience: float = PATIENCE) -> None:
    """For what nobody announces: files written and processes ended by others."""
    end = time.monotonic() + patience
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("has not come true")
        threading.Event().wait(0.005)


def gone(pid: int) -> bool:
    """No such process, or only its zombie is left."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


@contextlib.contextmanager
def rig(directory: Path, *options: str, **popen: Any) -> Iterator[Rig]:
    """A coordinator that must have left nothing behind when the test is done with it."""
    one = Rig(directory, *options, **popen)
    try:
        yield one
        one.finish()
        left = one.ours()
    except BaseException:
        print(one.log.read_text())
        raise
    finally:
        one.close()
    assert not left, f"processes left: {left}"


def now() -> float:
    """The coordinator's clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
