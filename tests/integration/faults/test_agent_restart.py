"""The agent goes and comes back: processes untouched, both lists right, the same uuids."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.integration.faults.processes import wait_dead
from tests.integration.faults.staged import StagedTask

if TYPE_CHECKING:
    from tests.integration.faults.stack import Stack


def restart_agent(stack: Stack, signum: int = signal.SIGKILL) -> None:
    agent = stack.parts["agent"]
    agent.stop(signum)
    agent.start()
    stack.ready("agent")


@pytest.mark.parametrize("stage", ["starting", "running", "killing", "finalizing"])
def test_an_agent_restart_changes_nothing(stack: Stack, stage: str) -> None:
    StagedTask(stack).live(lambda _staged: restart_agent(stack), stage)


def test_updates_made_while_the_agent_is_away_arrive_in_order_and_once(stack: Stack) -> None:
    staged = StagedTask(stack)
    staged.spawned()
    staged.task.wait_for("TASK_STARTING")
    agent = stack.parts["agent"]
    agent.kill()
    staged.become_healthy()
    staged.task.wait_accepted("TASK_RUNNING")
    staged.end()
    staged.finalizing()
    staged.finalized()
    wait_dead(staged.pid)
    agent.start()
    stack.ready("agent")
    assert staged.task.wait_end() == "TASK_FINISHED"
    staged.check("TASK_FINISHED")


def test_a_driver_killed_while_the_agent_is_away(stack: Stack) -> None:
    def strike(staged: StagedTask) -> None:
        stack.parts["agent"].kill()
        driver = staged.task._driver(coordinator)
        os.kill(driver, signal.SIGKILL)
        wait_dead(driver)
        stack.parts["agent"].start()
        stack.ready("agent")

    staged = StagedTask(stack)
    staged.task.driver()
    coordinator = staged.task.coordinator()
    staged.live(strike, "running")


def test_without_checkpointing_the_task_ends_with_the_agent(stack: Stack) -> None:
    gate = stack.gate()
    task = stack.launch(
        {"processes": [{"name": "p", "cmdline": f"echo $$ > {gate.path}; exec sleep 600"}]}, checkpoint=False
    )
    pid = int(gate.read())
    task.wait_for("TASK_RUNNING")
    coordinator = task.coordinator()
    stack.parts["agent"].kill()
    wait_dead(pid, 10.0)
    wait_dead(coordinator, 10.0)
    stack.parts["agent"].start()
    stack.ready("agent")
