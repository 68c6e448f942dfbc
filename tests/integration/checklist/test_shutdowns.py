"""Items 5, 23, 30 to 32: ends that have to be on time."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from mesos.v1 import mesos_pb2
from tests.integration.checklist.bench import OBEDIENT, STUBBORN, states
from tests.integration.faults.processes import wait_dead, wait_until
from tests.integration.faults.stack import SERVICES
from trivet.agent.v1 import agent_pb2

if TYPE_CHECKING:
    from tests.integration.checklist.bench import Bench, Sleeper
    from tests.integration.faults.launched import LaunchedTask

# Mesos: kept of the grace period for statuses and acknowledgements.
MARGIN = 2.0


def exit_status(task: LaunchedTask) -> int:
    """The executor's exit status, once the agent knows it; minus the signal when it was killed."""

    def over() -> agent_pb2.Executor | None:
        executor = task.executor()
        return executor if executor.state == agent_pb2.EXECUTOR_STATE_TERMINATED else None

    executor: agent_pb2.Executor = wait_until(over, "the executor's end")
    assert executor.HasField("exit_code") or executor.HasField("exit_signal")
    return executor.exit_code if executor.HasField("exit_code") else -executor.exit_signal


def shut_down(sleeper: Sleeper) -> float:
    """SHUTDOWN; returns when the executor's process was over, seconds after it."""
    coordinator = sleeper.task.coordinator()
    began = time.monotonic()
    sleeper.task.shutdown()
    wait_dead(coordinator)
    return time.monotonic() - began


@pytest.mark.parametrize("grace", [5, 1])
def test_31_an_obedient_task_is_killed_inside_the_shutdown_grace(bench: Bench, grace: float) -> None:
    sleeper = bench.sleeper(command=OBEDIENT, shutdown_grace=grace)
    assert shut_down(sleeper) < grace
    assert sleeper.task.wait_end() == "TASK_KILLED"
    # By itself, and with everything acknowledged: not by the agent's SIGKILL.
    assert exit_status(sleeper.task) == 0


@pytest.mark.parametrize("grace", [5, 1])
def test_31_a_stubborn_task_is_killed_in_time_for_its_status(bench: Bench, grace: float) -> None:
    sleeper = bench.sleeper(command=STUBBORN, shutdown_grace=grace, kill_grace=600)
    took = shut_down(sleeper)
    # Under 3 s a grace period is not worth a SIGTERM.
    assert (grace - MARGIN if grace >= 3 else 0) <= took < grace
    assert sleeper.task.wait_end() == "TASK_KILLED"
    assert exit_status(sleeper.task) == 0
    assert states(bench.tap.updates) == ["TASK_STARTING", "TASK_RUNNING", "TASK_KILLED"]


@pytest.mark.parametrize("command", [OBEDIENT, STUBBORN], ids=["obedient", "stubborn"])
def test_32_a_shutdown_is_obeyed_while_every_service_hangs(bench: Bench, command: str) -> None:
    sleeper = bench.sleeper(command=command, shutdown_grace=5)
    for name in SERVICES:
        bench.stack.parts[name].send(signal.SIGSTOP)
    took = shut_down(sleeper)
    for name in SERVICES:
        bench.stack.parts[name].send(signal.SIGCONT)
    assert took < 5
    assert sleeper.task.wait_end() == "TASK_KILLED"
    assert exit_status(sleeper.task) == 0


def test_32_processes_die_on_time_while_services_and_driver_hang(bench: Bench) -> None:
    told = bench.gate()
    sleeper = bench.sleeper(command=f"trap 'echo asked > {told.path}' TERM; while :; do sleep 0.05; done")
    for name in SERVICES:
        bench.stack.parts[name].send(signal.SIGSTOP)
    sleeper.task.kill(3)
    # The driver's own SIGTERM, which comes after the coordinator has been given the deadline.
    assert told.read() == "asked"
    driver = sleeper.task.driver()
    os.kill(driver, signal.SIGSTOP)
    wait_dead(sleeper.pid, 3)
    os.kill(driver, signal.SIGCONT)
    for name in SERVICES:
        bench.stack.parts[name].send(signal.SIGCONT)
    assert sleeper.task.wait_end() == "TASK_KILLED"


def test_30_the_completion_time_ends_the_task_without_grace(bench: Bench) -> None:
    def limited(info: mesos_pb2.TaskInfo) -> None:
        info.max_completion_time.nanoseconds = int(1e9)
        info.kill_policy.grace_period.nanoseconds = int(600e9)

    sleeper = bench.sleeper(command=STUBBORN, edit=limited, capabilities=("PARTITION_AWARE", "TASK_KILLING_STATE"))
    wait_dead(sleeper.pid, 5)
    assert sleeper.task.wait_end() == "TASK_FAILED"
    last = sleeper.task.statuses[-1]
    assert last.reason == mesos_pb2.TaskStatus.REASON_MAX_COMPLETION_TIME_REACHED
    assert states(bench.tap.updates) == ["TASK_STARTING", "TASK_RUNNING", "TASK_FAILED"]
