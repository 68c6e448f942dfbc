"""Services that are dead, absent or frozen: processes run on, ends are obeyed in time, nothing is lost."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.integration.faults.processes import wait_dead
from tests.integration.faults.stack import SERVICES, Stack
from tests.integration.faults.staged import StagedTask, freeze_driver

if TYPE_CHECKING:
    from collections.abc import Iterator


def stop_services(stack: Stack) -> None:
    for name in SERVICES:
        stack.parts[name].kill()


def start_services(stack: Stack) -> None:
    for name in SERVICES:
        stack.parts[name].start()


def test_a_process_that_exits_while_all_services_are_dead_is_not_forgotten(stack: Stack) -> None:
    def strike(staged: StagedTask) -> None:
        stop_services(stack)
        staged.end()
        wait_dead(staged.pid)
        start_services(stack)

    staged = StagedTask(stack)
    staged.spawned()
    staged.become_healthy()
    staged.task.wait_for("TASK_RUNNING")
    strike(staged)
    staged.finalizing()
    staged.finalized()
    assert staged.task.wait_end() == "TASK_FINISHED"
    staged.check("TASK_FINISHED")


@pytest.fixture
def bare_stack() -> Iterator[Stack]:
    """The agent alone."""
    stack = Stack(start=())
    yield stack
    stack.close()


def test_services_that_come_after_the_launch(bare_stack: Stack) -> None:
    gate = bare_stack.gate()
    task = bare_stack.launch({"processes": [{"name": "p", "cmdline": f"echo hi > {gate.path}"}]})
    task.driver()
    start_services(bare_stack)
    assert gate.read() == "hi"
    assert task.wait_end() == "TASK_FINISHED"
    # A reporter that comes after the process has ended has no RUNNING to tell of.
    assert [state for state in task.states if state != "TASK_RUNNING"] == ["TASK_STARTING", "TASK_FINISHED"]


def test_services_that_never_come_drop_the_task(bare_stack: Stack) -> None:
    task = bare_stack.launch({"processes": [{"name": "p", "cmdline": "true"}]}, options=["--service-deadline", "1"])
    assert task.wait_end() == "TASK_DROPPED"
    assert "nothing was started" in task.statuses[-1].message


@pytest.mark.parametrize("how", ["kill", "shutdown"])
def test_an_end_is_obeyed_while_every_service_is_dead(stack: Stack, how: str) -> None:
    gate = stack.gate()
    task = stack.launch({"processes": [{"name": "p", "cmdline": f"echo $$ > {gate.path}; exec sleep 600"}]})
    pid = int(gate.read())
    task.wait_for("TASK_RUNNING")
    stop_services(stack)
    if how == "kill":
        task.kill()
    else:
        task.shutdown()
    assert task.wait_end() == "TASK_KILLED"
    wait_dead(pid, 1.0)
    assert task.states == ["TASK_STARTING", "TASK_RUNNING", "TASK_KILLED"]


def test_a_kill_while_every_service_is_dead_gives_term_its_grace(stack: Stack) -> None:
    gate, told = stack.gate(), stack.gate()
    command = f"trap 'echo asked > {told.path}; exit 0' TERM; echo $$ > {gate.path}; while :; do sleep 0.05; done"
    task = stack.launch({"processes": [{"name": "p", "cmdline": command}]})
    gate.read()
    task.wait_for("TASK_RUNNING")
    stop_services(stack)
    task.kill(grace=10)
    assert told.read() == "asked"
    assert task.wait_end() == "TASK_KILLED"


def test_a_stubborn_process_dies_at_the_deadline_while_every_service_is_dead(stack: Stack) -> None:
    gate = stack.gate()
    task = stack.launch(
        {"processes": [{"name": "p", "cmdline": f"trap '' TERM; echo $$ > {gate.path}; while :; do sleep 1; done"}]}
    )
    pid = int(gate.read())
    task.wait_for("TASK_RUNNING")
    stop_services(stack)
    task.kill(grace=2)
    assert task.wait_end() == "TASK_KILLED"
    wait_dead(pid, 1.0)


@pytest.mark.parametrize("frozen", SERVICES)
def test_a_frozen_service_does_not_hold_back_a_kill(stack: Stack, frozen: str) -> None:
    gate = stack.gate()
    task = stack.launch({"processes": [{"name": "p", "cmdline": f"echo $$ > {gate.path}; exec sleep 600"}]})
    pid = int(gate.read())
    task.wait_for("TASK_RUNNING")
    stack.parts[frozen].send(signal.SIGSTOP)
    task.kill(grace=2)
    assert task.wait_end(20) == "TASK_KILLED"
    wait_dead(pid, 1.0)
    stack.parts[frozen].send(signal.SIGCONT)
    assert task.states == ["TASK_STARTING", "TASK_RUNNING", "TASK_KILLED"]


def test_a_frozen_driver_does_not_hold_back_a_kill(stack: Stack) -> None:
    staged = StagedTask(stack)
    staged.spawned()
    staged.become_healthy()
    staged.task.wait_for("TASK_RUNNING")
    freeze_driver(staged)
    # The event waits in the socket that the coordinator keeps.
    staged.kill()
    staged.terminated()
    staged.obey()
    staged.finalizing()
    staged.finalized()
    assert staged.task.wait_end() == "TASK_KILLED"
    staged.check("TASK_KILLED")
