"""A `trivet agent` process and the commands to it."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.integration.cli.rig import SECS, directory

if TYPE_CHECKING:
    from collections.abc import Iterator

# Where the foreign executor is.
FOREIGN_DIR = pathlib.Path(__file__).parents[1]
EXECUTOR = f"{sys.executable} obedient_executor.py"
RUNNING = "TASK_STARTING TASK_RUNNING"


class Rig:
    """A `trivet agent` in a directory, and other `trivet` commands against it."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.work_dir = os.path.join(root, "w")
        self.process = self.start()

    def start(self, *flags: str) -> subprocess.Popen[str]:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "services.cli", "agent", "--work-dir", self.work_dir, *flags],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.until_ready()
        return self.process

    def until_ready(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline().startswith("trivet-agent ready:")

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        self.process.communicate(timeout=SECS)
        return self.process.returncode

    def command(self, *argv: str) -> list[str]:
        return [sys.executable, "-m", "services.cli", *argv]

    def open(self, *argv: str) -> subprocess.Popen[str]:
        """A command that runs for a while."""
        return subprocess.Popen(
            self.command(*argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(),
        )

    def __call__(self, *argv: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """A command to its end, from the directory of the foreign executor."""
        return subprocess.run(
            self.command(*argv),
            input=stdin,
            capture_output=True,
            text=True,
            cwd=FOREIGN_DIR,
            env=self.environment(),
            timeout=SECS,
            check=False,
        )

    def launch(self, words: str, *argv: str) -> dict[str, Any]:
        """Launches the foreign executor; the first object of --json."""
        done = self("launch", "--executor", EXECUTOR, "--task-data", "-", "--json", *argv, stdin=words)
        assert done.returncode == 0, done.stderr
        launched: dict[str, Any] = json.loads(done.stdout.splitlines()[0])
        return launched

    def environment(self) -> dict[str, str]:
        return os.environ | {"TRIVET_AGENT": self.work_dir, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


@contextmanager
def running_agent() -> Iterator[Rig]:
    """An agent that is gone at the end, with its executors."""
    with directory() as root:
        rig = Rig(root)
        try:
            yield rig
        finally:
            if rig.process.poll() is None:
                rig.process.send_signal(signal.SIGCONT)
                rig.end()


def states(text: str) -> list[str]:
    return [line.split()[1].rstrip(":") for line in text.splitlines() if "TASK_" in line]


def next_state(command: subprocess.Popen[str]) -> str:
    assert command.stdout is not None
    return states(command.stdout.readline())[0]
