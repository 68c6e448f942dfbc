"""`kill -9` of the coordinator: nothing of the task is left, with the posix launcher, too."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from tests.integration.faults.processes import wait_dead

if TYPE_CHECKING:
    from tests.integration.faults.stack import Stack


def test_nothing_is_left_of_the_task(stack: Stack) -> None:
    plain, child, daemon, bare = (stack.gate() for _ in range(4))
    command = (
        f"(setsid bash -c 'echo $$ > {daemon.path}; exec sleep 600' &) ; "
        f"env -i setsid -f /bin/sh -c 'echo $$ > {bare.path}; exec sleep 600'; "
        f"bash -c 'echo $$ > {child.path}; sleep 600' & echo $$ > {plain.path}; wait"
    )
    task = stack.launch({"processes": [{"name": "p", "cmdline": command}]})
    pids = [int(gate.read()) for gate in (plain, child, daemon, bare)]
    task.wait_for("TASK_RUNNING")
    driver = task.driver()
    os.kill(task.coordinator(), signal.SIGKILL)
    for pid in [*pids, driver]:
        wait_dead(pid, 5.0)
    assert task.wait_end() == "TASK_FAILED"
    assert task.states == ["TASK_STARTING", "TASK_RUNNING", "TASK_FAILED"]


def test_sigterm_to_the_coordinator_ends_everything_in_order(stack: Stack) -> None:
    gate, told = stack.gate(), stack.gate()
    command = f"trap 'echo asked > {told.path}; exit 0' TERM; echo $$ > {gate.path}; while :; do sleep 0.05; done"
    task = stack.launch({"processes": [{"name": "p", "cmdline": command}]})
    pid = int(gate.read())
    task.wait_for("TASK_RUNNING")
    coordinator = task.coordinator()
    os.kill(coordinator, signal.SIGTERM)
    assert told.read() == "asked"
    wait_dead(pid)
    assert task.wait_end() == "TASK_KILLED"
    wait_dead(coordinator)
