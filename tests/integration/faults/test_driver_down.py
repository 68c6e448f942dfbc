"""What arrives while there is no driver at all."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.integration.faults.processes import wait_dead
from tests.integration.faults.staged import StagedTask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.faults.stack import Stack


@contextmanager
def no_driver(staged: StagedTask) -> Iterator[None]:
    """The driver is dead, and the coordinator is held so that it cannot start the next one."""
    coordinator, driver = staged.task.coordinator(), staged.task.driver()
    os.kill(coordinator, signal.SIGSTOP)
    os.kill(driver, signal.SIGKILL)
    yield
    os.kill(coordinator, signal.SIGCONT)


def test_a_kill_that_arrives_while_the_driver_is_down_is_obeyed(stack: Stack) -> None:
    staged = StagedTask(stack)
    staged.spawned()
    staged.become_healthy()
    staged.task.wait_for("TASK_RUNNING")
    with no_driver(staged):
        staged.kill()
    staged.terminated()
    staged.obey()
    staged.finalizing()
    staged.finalized()
    assert staged.task.wait_end() == "TASK_KILLED"
    staged.check("TASK_KILLED")


def test_an_exit_while_the_driver_is_down_is_not_lost(stack: Stack) -> None:
    staged = StagedTask(stack)
    staged.spawned()
    staged.become_healthy()
    staged.task.wait_for("TASK_RUNNING")
    with no_driver(staged):
        staged.end()
    staged.finalizing()
    staged.finalized()
    assert staged.task.wait_end() == "TASK_FINISHED"
    staged.check("TASK_FINISHED")


def test_a_shutdown_that_arrives_while_the_driver_is_down_is_obeyed(stack: Stack) -> None:
    staged = StagedTask(stack, shutdown_grace=20)
    staged.spawned()
    staged.become_healthy()
    staged.task.wait_for("TASK_RUNNING")
    with no_driver(staged):
        staged.task.shutdown()
    staged.terminated()
    staged.obey()
    staged.finalizing()
    staged.finalized()
    assert staged.task.wait_end() == "TASK_KILLED"
    staged.check("TASK_KILLED")
    wait_dead(staged.pid)


def test_two_launches_while_the_driver_is_down_run_once_each(stack: Stack) -> None:
    anchor = StagedTask(stack, executor="shared")
    anchor.spawned()
    anchor.become_healthy()
    anchor.task.wait_for("TASK_RUNNING")
    gates = [stack.gate(), stack.gate()]
    with no_driver(anchor):
        tasks = [
            stack.launch({"processes": [{"name": "p", "cmdline": f"echo ran > {gate.path}"}]}, executor="shared")
            for gate in gates
        ]
    for gate, task in zip(gates, tasks, strict=True):
        assert gate.read() == "ran"
        assert task.wait_end() == "TASK_FINISHED"
        assert task.states == ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"]
        assert len(task.runs()["p"]) == 1
    anchor.end()
    anchor.finalizing()
    anchor.finalized()
    assert anchor.task.wait_end() == "TASK_FINISHED"
