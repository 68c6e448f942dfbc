"""Endings that meet other trouble: restarts during SHUTDOWN, ids used again, leftovers of every kind."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from tests.integration.faults.processes import start_ticks, wait_dead, wait_until
from tests.integration.faults.staged import StagedTask

if TYPE_CHECKING:
    from tests.integration.faults.stack import Stack


def ending_in_order(stack: Stack) -> StagedTask:
    """A task that has been told to shut down and takes its time."""
    staged = StagedTask(stack, shutdown_grace=20)
    staged.spawned()
    staged.become_healthy()
    staged.task.wait_for("TASK_RUNNING")
    staged.task.shutdown()
    staged.terminated()
    return staged


def finish(staged: StagedTask) -> None:
    staged.undisturbed()
    staged.obey()
    staged.finalizing()
    staged.finalized()
    assert staged.task.wait_end() == "TASK_KILLED"
    staged.check("TASK_KILLED")


def test_a_driver_killed_during_shutdown_loses_no_status(stack: Stack) -> None:
    staged = ending_in_order(stack)
    driver = staged.task.driver()
    os.kill(driver, signal.SIGKILL)
    wait_dead(driver)
    finish(staged)


def test_an_agent_restarted_during_shutdown_gets_the_statuses(stack: Stack) -> None:
    staged = ending_in_order(stack)
    stack.restart("agent")
    finish(staged)


def test_an_id_is_free_once_acknowledged_though_a_service_is_away(stack: Stack) -> None:
    anchor = StagedTask(stack, executor="shared")
    anchor.spawned()
    anchor.become_healthy()
    anchor.task.wait_for("TASK_RUNNING")
    stack.parts["health"].kill()
    gate = stack.gate()
    for turn in ("first", "second"):
        definition = {"processes": [{"name": "p", "cmdline": f"echo {turn} > {gate.path}"}]}
        task = stack.launch(definition, executor="shared", task_id="again")
        assert gate.read() == turn
        task.wait_end()
    stack.parts["health"].start()
    anchor.end()
    anchor.finalizing()
    anchor.finalized()
    assert anchor.task.wait_end() == "TASK_FINISHED"


def test_a_dead_coordinator_leaves_nothing_of_probes_and_old_runs(stack: Stack) -> None:
    escaped, probed = stack.gate(), stack.gate()
    check = f"setsid sleep 600 & echo $! > {probed.path}; sleep 600"
    task = stack.launch(
        {
            "task": {
                "processes": [{"name": "p", "cmdline": f"setsid sleep 600 & echo $! > {escaped.path}; sleep 600"}]
            },
            "health_check_config": {
                "health_checker": {"shell": {"shell_command": check}},
                "interval_secs": 60,
                "timeout_secs": 60,
                "initial_interval_secs": 600,
            },
        }
    )
    pids = [int(escaped.read()), int(probed.read())]
    driver = task.driver()
    os.kill(task.coordinator(), signal.SIGKILL)
    wait_until(lambda: not any(start_ticks(pid) for pid in pids), "the leftovers to die")
    wait_dead(driver)
    assert task.wait_end() == "TASK_FAILED"
