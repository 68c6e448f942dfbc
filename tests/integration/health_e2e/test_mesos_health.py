"""Mesos' health check from TaskInfo to the scheduler: real agent, services, executor and target."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from mesos.v1 import mesos_pb2
from tests.integration.health_e2e.rig import (
    CAPABLE,
    HEALTH,
    SLEEP,
    assert_a_second_apart,
    http_health,
    mesos_health,
    told_healthy,
    watch_until,
    with_health,
)

if TYPE_CHECKING:
    from tests.integration.faults.stack import Stack
    from tests.integration.health_e2e.rig import Target


def test_three_failures_are_told_one_by_one_and_kill_the_task(stack: Stack, target: Target) -> None:
    # Longer than the second that two updates are apart.
    check = http_health(target.port, interval_seconds=1.2, consecutive_failures=3)
    task = stack.launch(SLEEP, capabilities=CAPABLE, edit=with_health(check))
    assert told_healthy(task, healthy=True).message == "HTTP health check passed"
    first = task.wait_for("TASK_RUNNING")
    assert not first.HasField("healthy")
    assert not first.HasField("reason")
    target.status = 503
    assert task.wait_end() == "TASK_KILLED"
    told = [(status.state, status.healthy, status.message) for status in task.statuses if status.HasField("healthy")]
    why = "status 503, expected status 200-399"
    running, killed = mesos_pb2.TASK_RUNNING, mesos_pb2.TASK_KILLED
    assert told[:3] == [
        (running, True, "HTTP health check passed"),
        (running, False, f"HTTP health check failed (1/3): {why}"),
        (running, False, f"HTTP health check failed (2/3): {why}"),
    ]
    assert told[-1] == (killed, False, f"Killed by failing health check: HTTP health check failed (3/3): {why}")
    assert not task.statuses[-1].HasField("reason")
    # Whether the third failure gets an update of its own before KILLING depends on who is faster.
    states = [state for state in task.states if state != "TASK_RUNNING"]
    assert states == ["TASK_STARTING", "TASK_KILLING", "TASK_KILLED"]


def test_no_killing_without_the_capability(stack: Stack, target: Target) -> None:
    target.status = 500
    task = stack.launch(SLEEP, edit=with_health(http_health(target.port, consecutive_failures=1)))
    assert task.wait_end() == "TASK_KILLED"
    assert "TASK_KILLING" not in task.states
    assert task.statuses[-1].healthy is False
    assert task.statuses[-1].HasField("healthy")


def test_failures_within_the_grace_period_are_not_told(stack: Stack, target: Target) -> None:
    target.script = [503] * 5
    check = http_health(target.port, grace_period_seconds=600, consecutive_failures=1)
    task = stack.launch(SLEEP, edit=with_health(check))
    told_healthy(task, healthy=True)
    assert len(target.requests) > 5
    assert [status.healthy for status in task.statuses if status.HasField("healthy")] == [True]
    # A success has ended it: the next failure counts.
    target.status = 503
    assert task.wait_end() == "TASK_KILLED"


def test_the_grace_period_ends(stack: Stack, target: Target) -> None:
    target.status = 503
    check = http_health(target.port, grace_period_seconds=1, consecutive_failures=2)
    task = stack.launch(SLEEP, edit=with_health(check))
    assert task.wait_end() == "TASK_KILLED"
    # Nothing counted before, so many were made.
    assert len(target.requests) > 4
    assert "(2/2)" in task.statuses[-1].message


def test_a_target_that_refuses_fails_and_one_that_comes_back_passes(stack: Stack, target: Target) -> None:
    task = stack.launch(SLEEP, edit=with_health(http_health(target.port, consecutive_failures=100_000)))
    told_healthy(task, healthy=True)
    target.stop()
    assert "Connection refused" in told_healthy(task, healthy=False).message
    count = len(task.statuses)
    target.listen()
    told_healthy(task, healthy=True, after=count)


def test_updates_of_a_flapping_target_are_a_second_apart(stack: Stack, target: Target) -> None:
    target.script = [200, 503] * 15
    target.status = 200
    task = stack.launch(SLEEP, edit=with_health(http_health(target.port, consecutive_failures=3)))
    target.wait_requests(32)
    watch_until(stack, task, lambda check: check.verdict.consecutive_successes > 1)
    last = task.wait_status(lambda status: status.healthy and status.reason == HEALTH, "the end", after=2)
    assert last.healthy
    # There were thirty turns in three seconds.
    assert len(task.statuses) < 9
    assert_a_second_apart(task)


def test_a_command_check_runs_as_the_task_does(stack: Stack) -> None:
    seen, proof = f"{stack.dir}/seen", f"{stack.dir}/proof"
    check = mesos_health("COMMAND", consecutive_failures=2)
    # The directory is the one that the task's processes work in, and which they have written to.
    check.command.value = f'test -e made-by-the-task && printf "$WORD" > {seen} && test -e {proof}'
    check.command.environment.variables.add(name="WORD", value="hello")
    definition = {"processes": [{"name": "main", "cmdline": "touch made-by-the-task; exec sleep 600"}]}
    check.grace_period_seconds = 600
    with open(proof, "w"):
        pass
    task = stack.launch(definition, edit=with_health(check))
    assert told_healthy(task, healthy=True).message == "Command health check passed"
    with open(seen) as file:
        assert file.read() == "hello"
    os.unlink(proof)
    assert task.wait_end() == "TASK_KILLED"
    assert "(2/2): exited with status 1" in task.statuses[-1].message.replace("Command exited", "exited")


def test_a_tcp_check_connects(stack: Stack) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as server:
        check = mesos_health("TCP", consecutive_failures=1)
        check.tcp.port = server.getsockname()[1]
        task = stack.launch(SLEEP, edit=with_health(check))
        assert told_healthy(task, healthy=True).message == "TCP health check passed"
    assert task.wait_end() == "TASK_KILLED"
    assert "Connection refused" in task.statuses[-1].message
    assert task.statuses[-1].healthy is False


def test_the_label_makes_running_wait(stack: Stack, target: Target) -> None:
    target.status = 503
    check = http_health(target.port, grace_period_seconds=600)
    task = stack.launch(SLEEP, edit=with_health(check, gated=True))
    target.wait_requests(3)
    assert task.states == ["TASK_STARTING"]
    target.status = 200
    running = task.wait_for("TASK_RUNNING")
    assert running.healthy
    assert (running.reason, running.message) == (HEALTH, "HTTP health check passed")


def test_a_gate_whose_command_cannot_be_run_ends_the_task(stack: Stack) -> None:
    check = mesos_health("COMMAND", consecutive_failures=2)
    check.command.shell = False
    check.command.value = f"{stack.dir}/is-not-there"
    task = stack.launch(SLEEP, edit=with_health(check, gated=True))
    assert task.wait_end() == "TASK_KILLED"
    assert task.states == ["TASK_STARTING", "TASK_KILLED"]
    assert "No such file" in task.statuses[-1].message
