"""Runs the real `trivet` command, and finds what it has left behind."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.integration.ready import readable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXAMPLES = pathlib.Path(__file__).parents[3] / "examples"
SECS = 60.0

Event = dict[str, Any]


class Cli:
    """One `trivet` process, its lines as they come."""

    def __init__(self, root: str, *argv: str, **environment: str) -> None:
        self.root = root
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "services.cli", *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )

    @property
    def events(self) -> list[Event]:
        """All objects so far."""
        return [json.loads(line) for line in self.lines]

    def until(self, found: Callable[[Event], bool]) -> Event:
        """Reads up to the first event that is meant."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            event: Event = json.loads(line)
            if found(event):
                return event
        raise AssertionError(f"ended without it: {self.lines} {self.process.stderr and self.process.stderr.read()}")

    def until_state(self, state: str) -> Event:
        """Reads up to a status or a transition to this state."""
        return self.until(lambda event: event["state"] == state)

    def until_noted(self, words: str) -> None:
        """Reads stderr up to a line with these words."""
        assert self.process.stderr is not None
        seen = []
        for line in self.process.stderr:
            seen.append(line)
            if words in line:
                return
        raise AssertionError(f"never said: {words!r} in {seen}")

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def end(self) -> int:
        """Reads the rest; the exit status."""
        out, self.err = self.process.communicate(timeout=SECS)
        self.lines += out.splitlines()
        return self.process.returncode


@contextmanager
def directory() -> Iterator[str]:
    """A directory with a path short enough for sockets; afterwards nothing that belongs to it may run."""
    with tempfile.TemporaryDirectory(prefix="tc-", dir="/tmp") as root:
        try:
            yield root
            left = running_in(root)
            assert not left, f"still running: {left}"
        finally:
            for pid in running_in(root):
                os.kill(pid, signal.SIGKILL)


@contextmanager
def trivet(root: str, *argv: str, **environment: str) -> Iterator[Cli]:
    """A `trivet` process that is gone at the end, with its stack, however the test ended."""
    cli = Cli(root, *argv, **environment)
    try:
        yield cli
    finally:
        if cli.process.poll() is None:
            # Its stack follows by itself: that is tested elsewhere and used here.
            ends = [os.pidfd_open(pid) for pid in running_in(root)]
            cli.process.kill()
            cli.process.wait()
            for fd in ends:
                readable(fd, SECS)
                os.close(fd)
        for stream in (cli.process.stdout, cli.process.stderr):
            if stream is not None:
                stream.close()


def run(root: str, *argv: str, **environment: str) -> Cli:
    """`trivet run --dir ROOT --output json ARGV`, to its end."""
    with trivet(root, "run", "--dir", root, "--output", "json", *argv, **environment) as cli:
        cli.end()
        return cli


def running_in(root: str) -> dict[int, str]:
    """Processes that work in `root` or were told of it: pid -> command line."""
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
            where = os.readlink(f"/proc/{entry}/cwd")
        except OSError:
            continue
        if where.startswith(root) or any(word.decode(errors="replace").startswith(root) for word in words):
            found[int(entry)] = b" ".join(words).decode(errors="replace")
    return found


def pid_of(root: str, part: str) -> int:
    """Pid of a part of the stack: `services.runner`, `executor_shim.driver`."""
    (pid,) = [pid for pid, line in running_in(root).items() if part in line.split() and "services.cli" not in line]
    return pid


def example(name: str) -> str:
    """Path of an example."""
    return str(EXAMPLES / f"{name}.json")


def statuses(cli: Cli) -> list[str]:
    """States of all status updates, in order."""
    return [event["state"] for event in cli.events if event["type"] == "status"]


def transitions(cli: Cli, process: str) -> list[tuple[int, str]]:
    """(run, state) of one process, in order."""
    return [
        (event["run"], event["state"])
        for event in cli.events
        if event["type"] == "process" and event["process"] == process
    ]


def log(cli: Cli, process: str, run_number: int = 0, stream: str = "stdout") -> str:
    """What a run has written."""
    sandbox = pathlib.Path(cli.events[-1]["sandbox"])
    return (sandbox / "sandbox" / ".logs" / process / str(run_number) / stream).read_text()
