"""What only shows after a while: idle connections, and services that are away for long. Here time has to pass."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import pytest

from tests.integration.faults.processes import wait_dead
from tests.integration.faults.stack import SERVICES
from tests.integration.faults.staged import StagedTask, freeze_driver

if TYPE_CHECKING:
    from tests.integration.faults.stack import Stack

# gRPC notices a frozen peer by other means on a connection that has been idle for a minute.
SILENCE_SECS = 61.0
AWAY_SECS = 10.0


def let_time_pass(seconds: float) -> None:
    threading.Event().wait(seconds)


def running(stack: Stack) -> StagedTask:
    staged = StagedTask(stack)
    staged.spawned()
    staged.become_healthy()
    staged.task.wait_for("TASK_RUNNING")
    return staged


def test_all_services_away_for_long_while_a_process_exits(stack: Stack) -> None:
    staged = running(stack)
    for name in SERVICES:
        stack.parts[name].kill()
    staged.end()
    wait_dead(staged.pid)
    let_time_pass(AWAY_SECS)
    for name in SERVICES:
        stack.parts[name].start()
    staged.finalizing()
    staged.finalized()
    assert staged.task.wait_end() == "TASK_FINISHED"
    staged.check("TASK_FINISHED")


@pytest.mark.parametrize("frozen", SERVICES)
def test_a_service_frozen_after_a_minute_of_silence_does_not_hold_back_a_kill(stack: Stack, frozen: str) -> None:
    gate = stack.gate()
    task = stack.launch({"processes": [{"name": "p", "cmdline": f"echo $$ > {gate.path}; exec sleep 600"}]})
    pid = int(gate.read())
    task.wait_for("TASK_RUNNING")
    let_time_pass(SILENCE_SECS)
    stack.parts[frozen].send(signal.SIGSTOP)
    assert task.kill()
    assert task.wait_end(10) == "TASK_KILLED"
    wait_dead(pid, 1.0)
    stack.parts[frozen].send(signal.SIGCONT)
    assert task.states == ["TASK_STARTING", "TASK_RUNNING", "TASK_KILLED"]


def test_a_driver_frozen_after_a_minute_of_silence_does_not_hold_back_a_kill(stack: Stack) -> None:
    staged = running(stack)
    let_time_pass(SILENCE_SECS)
    freeze_driver(staged)
    staged.kill()
    staged.terminated()
    staged.obey()
    staged.finalizing()
    staged.finalized()
    assert staged.task.wait_end() == "TASK_KILLED"
    staged.check("TASK_KILLED")
