"""Nothing outside the task is ever signalled, however the task ends and whoever looks like it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.faults.processes import start_ticks, wait_dead

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.faults.launched import LaunchedTask
    from tests.integration.faults.stack import Stack

# Tells every signal that reaches it; of SIGKILL and SIGSTOP it tells by what has become of it.
WATCHER = """
import os, signal, sys
def tell(number, _frame):
    with open(sys.argv[1], "a") as file:
        file.write(f"{signal.Signals(number).name}\\n")
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
    signal.signal(number, tell)
with open(sys.argv[2], "w") as gate:
    gate.write(f"{os.getpid()}\\n")
while True:
    signal.pause()
"""
MARKER = "TRIVET_RUN"


class Bystander:
    """A process that is nobody's business."""

    def __init__(self, stack: Stack, told: Path, **how: object) -> None:
        self.told = told
        gate = stack.gate()
        command = [sys.executable, "-c", WATCHER, str(told), gate.path]
        self.process = subprocess.Popen(command, **how)  # type: ignore[call-overload]
        self.ticks = start_ticks(int(gate.read()))

    def check(self) -> None:
        assert self.process.poll() is None
        assert start_ticks(self.process.pid) == self.ticks
        stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        assert stat.rpartition(")")[2].split()[0] == "S", "it was stopped"
        assert not self.told.exists(), self.told.read_text()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def marker_of(pid: int) -> str:
    for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
        name, _, value = entry.partition(b"=")
        if name.decode() == MARKER:
            return value.decode()
    raise AssertionError(f"process {pid} wears no marker")


@pytest.fixture
def neighbour(stack: Stack, tmp_path: Path) -> Iterator[tuple[LaunchedTask, Path]]:
    """A task of another executor that tells what reaches it."""
    gate, told = stack.gate(), tmp_path / "neighbour"
    script = tmp_path / "watcher.py"
    script.write_text(WATCHER)
    task = stack.launch(
        {"processes": [{"name": "p", "cmdline": f"exec {sys.executable} {script} {told} {gate.path}"}]}, task_id="other"
    )
    gate.read()
    task.wait_for("TASK_RUNNING")
    yield task, told
    task.kill(0)
    task.wait_end()


def end_by_exit(task: LaunchedTask, pid: int) -> str:
    os.kill(pid, signal.SIGUSR1)
    return "TASK_FAILED"


def end_by_kill(task: LaunchedTask, pid: int) -> str:
    task.kill(1)
    return "TASK_KILLED"


def end_by_kill_at_once(task: LaunchedTask, pid: int) -> str:
    task.kill(0)
    return "TASK_KILLED"


def end_by_death_of_the_coordinator(task: LaunchedTask, pid: int) -> str:
    os.kill(task.coordinator(), signal.SIGKILL)
    return "TASK_FAILED"


def end_by_sigterm_to_the_coordinator(task: LaunchedTask, pid: int) -> str:
    os.kill(task.coordinator(), signal.SIGTERM)
    return "TASK_KILLED"


@pytest.mark.parametrize(
    "end",
    [
        end_by_exit,
        end_by_kill,
        end_by_kill_at_once,
        end_by_death_of_the_coordinator,
        end_by_sigterm_to_the_coordinator,
    ],
)
def test_nothing_outside_of_the_task_is_signalled(
    stack: Stack, tmp_path: Path, neighbour: tuple[LaunchedTask, Path], end: object
) -> None:
    gate, daemon = stack.gate(), stack.gate()
    # One that ignores SIGTERM, and one that left its session: both are found, and killed.
    command = (
        f"setsid bash -c 'trap \"\" TERM; echo $$ > {daemon.path}; while :; do sleep 0.1; done' & "
        f"echo $$ > {gate.path}; trap 'exit 3' USR1; while :; do sleep 0.05; done"
    )
    task = stack.launch({"processes": [{"name": "p", "cmdline": command}], "finalization_wait": 1})
    pid, daemon_pid = int(gate.read()), int(daemon.read())
    task.wait_for("TASK_RUNNING")
    marker = marker_of(pid)
    other_marker = ("0" if marker[0] != "0" else "1") + marker[1:]
    sandbox = os.readlink(f"/proc/{pid}/cwd")
    environment = {**os.environ, MARKER: other_marker, "HOME": sandbox}
    disguises: list[dict[str, object]] = [
        {},
        {"start_new_session": True},
        {"cwd": sandbox, "start_new_session": True},
        {"env": environment, "start_new_session": True, "cwd": sandbox},
    ]
    with ExitStack() as closing:
        bystanders = []
        for number, how in enumerate(disguises):
            bystanders.append(Bystander(stack, tmp_path / f"told{number}", **how))
            closing.callback(bystanders[-1].close)
        assert callable(end)
        expected = end(task, pid)
        wait_dead(pid)
        wait_dead(daemon_pid)
        assert task.wait_end() == expected
        for bystander in bystanders:
            bystander.check()
        other, told = neighbour
        assert other.states == ["TASK_STARTING", "TASK_RUNNING"]
        assert not told.exists(), told.read_text()
