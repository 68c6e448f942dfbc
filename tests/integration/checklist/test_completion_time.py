"""Item 30: a task's completion time, whoever is there to see to it."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from mesos.v1 import mesos_pb2
from tests.integration.checklist.bench import STUBBORN, Sleeper, states, terminals
from tests.integration.faults.processes import start_ticks, wait_dead

if TYPE_CHECKING:
    from tests.integration.checklist.bench import Bench

LIMIT = 3.0
OVERTIME = mesos_pb2.TaskStatus.REASON_MAX_COMPLETION_TIME_REACHED


def limited(bench: Bench, seconds: float = LIMIT) -> Sleeper:
    """A task that disregards SIGTERM, with much time for a KILL and little for itself."""

    def edit(info: mesos_pb2.TaskInfo) -> None:
        info.max_completion_time.nanoseconds = int(seconds * 1e9)
        info.kill_policy.grace_period.nanoseconds = int(600e9)

    return bench.sleeper(command=STUBBORN, edit=edit)


def assert_overtime(bench: Bench, sleeper: Sleeper) -> None:
    assert sleeper.task.wait_end() == "TASK_FAILED"
    last = sleeper.task.statuses[-1]
    assert last.reason == OVERTIME
    assert last.message.startswith("The task ran longer than its max_completion_time")
    assert states(bench.tap.updates) == ["TASK_STARTING", "TASK_RUNNING", "TASK_FAILED"]


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL], ids=["frozen", "dead"])
def test_30_the_driver_ends_the_task_when_the_runner_does_not(bench: Bench, how: signal.Signals) -> None:
    sleeper = limited(bench)
    runner, began = bench.stack.parts["runner"], time.monotonic()
    runner.send(how)
    wait_dead(sleeper.pid, 20)
    # A little less than the limit, as the task had been running before.
    assert time.monotonic() - began > LIMIT - 2
    assert_overtime(bench, sleeper)
    if how is signal.SIGSTOP:
        # It wakes, finds the task overdue, and must not make a second end of it.
        runner.send(signal.SIGCONT)
    else:
        runner.kill()
        runner.start()
    bench.stack.ready("runner")
    wait_dead(sleeper.task.coordinator())
    assert len(terminals(bench.tap.updates)) == 1


def test_30_the_time_goes_on_over_a_death_of_the_driver(bench: Bench) -> None:
    sleeper = limited(bench, 6.0)
    began = time.monotonic()
    bench.stack.parts["runner"].send(signal.SIGSTOP)
    for _ in range(2):
        driver = sleeper.task.driver()
        os.kill(driver, signal.SIGKILL)
        wait_dead(driver)
    assert start_ticks(sleeper.pid)
    wait_dead(sleeper.pid, 20)
    # Had it begun anew, or twice, it would take longer.
    assert 4 < time.monotonic() - began < 9
    assert_overtime(bench, sleeper)
    bench.stack.parts["runner"].send(signal.SIGCONT)


def test_30_a_kill_before_it_decides_how_the_task_ends(bench: Bench) -> None:
    sleeper = limited(bench)
    assert sleeper.task.kill(5)
    wait_dead(sleeper.pid, 20)
    assert sleeper.task.wait_end() == "TASK_KILLED"
    assert sleeper.task.statuses[-1].reason != OVERTIME
