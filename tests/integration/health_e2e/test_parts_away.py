"""Health, driver and target go away while tasks are probed: nobody can tell afterwards, and nothing is judged by it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.integration.faults.processes import start_ticks, wait_dead, wait_until
from tests.integration.health_e2e.rig import (
    SLEEP,
    Target,
    aurora,
    http_health,
    mesos_health,
    shown,
    told_healthy,
    watch_until,
    with_health,
)
from trivet.health.v1 import health_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.faults.launched import LaunchedTask
    from tests.integration.faults.stack import Stack

# Longer than the intervals that must not run meanwhile, which are 2 s.
AWAY = 3.0


def away(stack: Stack, how: str) -> None:
    """Health is dead or frozen for longer than a task has time to pass."""
    part = stack.parts["health"]
    if how == "killed":
        part.kill()
    else:
        part.send(signal.SIGSTOP)
    threading.Event().wait(AWAY)
    if how == "killed":
        part.start()
    else:
        part.send(signal.SIGCONT)
    stack.ready("health")


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_a_starting_task_has_as_much_time_as_if_health_had_been_there(stack: Stack, target: Target, how: str) -> None:
    target.status = 503
    task = stack.launch(aurora(target.port, initial_interval_secs=2, interval_secs=0.4))
    # Between two probes: no answer is under way.
    watch_until(stack, task, lambda check: check.failures == 2)
    away(stack, how)
    # The initial interval is over by the clock, and one failure more would end the task if it had counted.
    target.wait_requests(1)
    target.status = 200
    task.wait_for("TASK_RUNNING")
    assert task.states == ["TASK_STARTING", "TASK_RUNNING"]


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_the_grace_period_stands_still_as_well(stack: Stack, target: Target, how: str) -> None:
    target.status = 503
    check = http_health(target.port, grace_period_seconds=2, consecutive_failures=1, interval_seconds=0.4)
    task = stack.launch(SLEEP, edit=with_health(check))
    watch_until(stack, task, lambda check: check.failures == 2)
    away(stack, how)
    target.wait_requests(1)
    target.status = 200
    told_healthy(task, healthy=True)
    assert all(status.healthy for status in task.statuses if status.HasField("healthy"))


def test_health_killed_again_and_again_flaps_in_no_direction(stack: Stack, target: Target) -> None:
    good = stack.launch(aurora(target.port), executor="shared")
    with target_of(503) as broken:
        bad = stack.launch(
            SLEEP, executor="shared", edit=with_health(http_health(broken.port, consecutive_failures=100_000))
        )
        good.wait_for("TASK_RUNNING")
        told_healthy(bad, healthy=False)
        for _ in range(5):
            probes = shown(stack, good).check.probes
            stack.restart("health")
            wait_probes(stack, good, probes + 2)
        assert good.states == ["TASK_STARTING", "TASK_RUNNING"]
        assert not any(status.healthy for status in bad.statuses)
        failures = shown(stack, bad).check.verdict.consecutive_failures
        watch_until(stack, bad, lambda check: check.verdict.consecutive_failures > failures)
        # The row of failures went on over all restarts.
        assert shown(stack, bad).check.verdict.consecutive_failures == shown(stack, bad).check.failures


def wait_probes(stack: Stack, task: LaunchedTask, number: int) -> None:
    watch_until(stack, task, lambda check: check.probes >= number)


@contextlib.contextmanager
def target_of(status: int) -> Iterator[Target]:
    target = Target()
    target.status = status
    yield target
    target.close()


def test_a_verdict_that_nobody_could_hear_ends_the_task_later(stack: Stack, target: Target) -> None:
    task = stack.launch(aurora(target.port, rule="attempts", max_consecutive_failures=1))
    task.wait_for("TASK_RUNNING")
    target.script = [503]
    target.hold()
    target.wait_requests(1)
    # One failure is on its way, and is lost with the service.
    stack.restart("health")
    target.let_go()
    target.status = 503
    assert task.wait_end() == "TASK_FAILED"
    assert "(2 failures in a row, 1 allowed)" in task.statuses[-1].message


def test_health_killed_while_the_task_ends(stack: Stack, target: Target) -> None:
    told, done = stack.gate(), stack.gate()
    command = f"trap 'echo term > {told.path}; head -n1 {done.path}; exit 0' TERM; sleep 600 & wait $!"
    definition = aurora(target.port, rule="attempts")
    definition["task"] = {"processes": [{"name": "main", "cmdline": command}]}
    task = stack.launch(definition)
    task.wait_for("TASK_RUNNING")
    target.status = 503
    assert told.read() == "term"
    stack.restart("health")
    seen = len(target.requests)
    done.open()
    assert task.wait_end() == "TASK_FAILED"
    assert task.statuses[-1].message.startswith("Failed health check!")
    assert len(target.requests) == seen


def test_a_driver_killed_in_the_middle_of_a_probe(stack: Stack, target: Target) -> None:
    task = stack.launch(aurora(target.port))
    task.wait_for("TASK_RUNNING")
    target.hold()
    target.wait_requests(1)
    driver = task.driver()
    os.kill(driver, signal.SIGKILL)
    wait_dead(driver)
    target.wait_abandoned()
    target.let_go()
    target.wait_requests(3)
    watch_until(stack, task, lambda check: check.verdict.consecutive_successes > 2)
    assert task.states == ["TASK_STARTING", "TASK_RUNNING"]
    assert shown(stack, task).check.failures == 0


def test_a_driver_killed_while_a_command_probe_runs_leaves_no_second_one(stack: Stack) -> None:
    pids = stack.gate()
    check = mesos_health("COMMAND", timeout_seconds=600)
    check.command.value = f"sleep 600 & echo $! $$ > {pids.path}; wait"
    task = stack.launch(SLEEP, edit=with_health(check))
    old = [int(pid) for pid in pids.read().split()]
    driver = task.driver()
    os.kill(driver, signal.SIGKILL)
    wait_dead(driver)
    new = [int(pid) for pid in pids.read().split()]
    wait_until(lambda: not any(map(start_ticks, old)), "the old probe to be gone")
    assert all(map(start_ticks, new))
    assert task.kill()
    assert task.wait_end() == "TASK_KILLED"
    wait_until(lambda: not any(map(start_ticks, new)), "the new one too")


@pytest.mark.parametrize("cause", ["KILL", "a failed process"])
def test_nothing_is_probed_once_term_was_sent(stack: Stack, target: Target, cause: str) -> None:
    told, done, fail = stack.gate(), stack.gate(), stack.gate()
    main = f"trap 'echo term > {told.path}; head -n1 {done.path}; exit 0' TERM; sleep 600 & wait $!"
    other = f"head -n1 {fail.path}; exit 3"
    processes = [{"name": "main", "cmdline": main}, {"name": "other", "cmdline": other}]
    task = stack.launch({"processes": processes, "finalization_wait": 30}, edit=with_health(http_health(target.port)))
    told_healthy(task, healthy=True)
    if cause == "KILL":
        assert task.kill(grace=20)
    else:
        fail.open()
    assert told.read() == "term"
    stopped = time.monotonic()
    watch_until(stack, task, lambda check: check.phase == health_pb2.CHECK_PHASE_STOPPED)
    # Ten intervals: a probe that were still planned would come.
    threading.Event().wait(1.0)
    assert max(target.requests) < stopped
    done.open()
    assert task.wait_end() == ("TASK_KILLED" if cause == "KILL" else "TASK_FAILED")
    assert len({status.healthy for status in task.statuses if status.HasField("healthy")}) == 1


@pytest.mark.parametrize("end", ["by itself", "by KILL"])
def test_the_end_in_the_middle_of_a_probe_is_no_failure(stack: Stack, target: Target, end: str) -> None:
    go = stack.gate()
    definition = {"processes": [{"name": "main", "cmdline": f"head -n1 {go.path}"}]}
    task: LaunchedTask = stack.launch(
        definition, edit=with_health(http_health(target.port, consecutive_failures=1, timeout_seconds=600))
    )
    told_healthy(task, healthy=True)
    target.hold()
    target.wait_requests(1)
    if end == "by itself":
        go.open()
    else:
        assert task.kill()
    assert task.wait_end() == ("TASK_FINISHED" if end == "by itself" else "TASK_KILLED")
    target.wait_abandoned()
    assert not any(status.HasField("healthy") and not status.healthy for status in task.statuses)
