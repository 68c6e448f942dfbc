"""Trivet's own executor in a container with limits and pids of its own, under its real services."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.integration.faults.processes import children_of, command_line, leftovers, wait_dead
from tests.integration.faults.stack import Stack
from tests.integration.local_agent.linux_containers import V1, V2, LinuxAgent, namespaced_pids, require

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.faults.launched import LaunchedTask

pytestmark = pytest.mark.root


@pytest.fixture(params=[V1, V2], ids=["v1", "v2"])
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    require(request.param)
    root = f"tvt-stack-{os.getpid()}"
    before = request.session.testsfailed
    stack = Stack([*request.param, f"--cgroups-root={root}"])
    yield stack
    failed = request.session.testsfailed > before
    if failed:
        sys.stdout.write(f"logs are kept in {stack.dir}\n")
    stack.close(keep=failed)
    assert LinuxAgent.below(root) == []


def _init_and_coordinator(task: LaunchedTask) -> tuple[int, int]:
    init = task.coordinator()
    (coordinator,) = children_of(init)
    assert "executor_shim" in command_line(coordinator)
    return init, coordinator


def test_a_task_runs_to_its_end(stack: Stack) -> None:
    gate, go = stack.gate(), stack.gate()
    command = f"echo $$ > {gate.path}; head -n1 {go.path} > /dev/null"
    task = stack.launch({"processes": [{"name": "p", "cmdline": command}]})
    inside = int(gate.read())
    task.wait_for("TASK_RUNNING")
    init, coordinator = _init_and_coordinator(task)
    assert namespaced_pids(init) == [init, 1]
    assert namespaced_pids(coordinator)[1] == 2
    # The runner is told the pid that the process has in its container.
    assert task.runs()["p"][0].pid == inside
    go.open()
    assert task.wait_end() == "TASK_FINISHED"
    wait_dead(init)


def test_a_task_is_killed_in_order(stack: Stack) -> None:
    gate, told = stack.gate(), stack.gate()
    command = f"trap 'echo asked > {told.path}; exit 0' TERM; echo $$ > {gate.path}; while :; do sleep 0.05; done"
    task = stack.launch({"processes": [{"name": "p", "cmdline": command}]})
    gate.read()
    task.wait_for("TASK_RUNNING")
    assert task.kill()
    assert told.read() == "asked"
    assert task.wait_end() == "TASK_KILLED"


def test_death_of_the_coordinator_leaves_nothing(stack: Stack) -> None:
    plain, child, daemon = (stack.gate() for _ in range(3))
    # The daemon has another session, no parent and an empty environment.
    command = (
        f"(setsid env -i /bin/bash -c 'echo $$ > {daemon.path}; exec sleep 600' &) ; "
        f"bash -c 'echo $$ > {child.path}; sleep 600' & echo $$ > {plain.path}; wait"
    )
    took = []
    for _ in range(3):
        task = stack.launch({"processes": [{"name": "p", "cmdline": command}]})
        for gate in (plain, child, daemon):
            gate.read()
        task.wait_for("TASK_RUNNING")
        init, coordinator = _init_and_coordinator(task)
        own = os.readlink(f"/proc/{init}/ns/pid")
        inside = [pid for pid in _pids() if _namespace(pid) == own]
        assert len(inside) >= 6
        began = time.monotonic()
        os.kill(coordinator, signal.SIGKILL)
        for pid in inside:
            wait_dead(pid, 5.0)
        took.append(time.monotonic() - began)
        assert task.wait_end() == "TASK_FAILED"
        status = task.statuses[-1]
        assert status.reason == status.REASON_EXECUTOR_TERMINATED
        assert task.states == ["TASK_STARTING", "TASK_RUNNING", "TASK_FAILED"]
        assert leftovers(task.sandbox) == {}
    # The best of three: what the machine does besides must not count.
    assert min(took) < 0.1, took


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""
