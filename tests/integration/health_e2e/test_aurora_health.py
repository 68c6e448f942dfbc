"""Aurora's health_check_config to the scheduler: both rules, the gate, both ways to snooze."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.health_e2e.rig import (
    CAPABLE,
    HEALTH,
    aurora,
    http_health,
    shown,
    snooze,
    told_healthy,
    watch_until,
    with_health,
)

if TYPE_CHECKING:
    from tests.integration.faults.launched import LaunchedTask
    from tests.integration.faults.stack import Stack
    from tests.integration.health_e2e.rig import Target

SNOOZE_FILE = "sandbox/.healthchecksnooze"
# Under the time rule failures are tolerated until it is over, before and after the task has passed.
SOON = 3


def earned_in_attempts(port: int, **config: Any) -> dict[str, Any]:
    """Four forgiving attempts and one more."""
    return aurora(port, interval_secs=0.25, initial_interval_secs=1, **config)


def test_running_waits_and_a_failed_task_is_unhealthy(stack: Stack, target: Target) -> None:
    target.status = 503
    task = stack.launch(
        aurora(target.port, max_consecutive_failures=2, initial_interval_secs=SOON), capabilities=CAPABLE
    )
    target.wait_requests(5)
    assert task.states == ["TASK_STARTING"]
    target.status = 200
    running = task.wait_for("TASK_RUNNING")
    assert running.healthy
    assert not running.HasField("reason")
    target.status = 503
    assert task.wait_end() == "TASK_FAILED"
    last = task.statuses[-1]
    assert (last.HasField("healthy"), last.healthy) == (True, False)
    assert last.message.startswith("Failed health check! HTTP health check failed: status 503")
    assert [status.healthy for status in task.statuses if status.reason == HEALTH] in ([], [False])


def test_the_time_rule_fails_what_has_not_passed_in_time(stack: Stack, target: Target) -> None:
    target.body = b"not yet"
    task = stack.launch(aurora(target.port, initial_interval_secs=1))
    assert task.wait_end() == "TASK_FAILED"
    assert "TASK_RUNNING" not in task.states
    assert len(target.requests) > 5


def test_the_attempts_rule_by_configuration(stack: Stack, target: Target) -> None:
    target.status = 503
    task = stack.launch(earned_in_attempts(target.port, rule="attempts"))
    assert task.wait_end() == "TASK_FAILED"
    assert len(target.requests) == 5
    assert "(1 failure in a row, 0 allowed)" in task.statuses[-1].message


def test_the_attempts_rule_by_flag_holds_for_new_tasks_only(stack: Stack, target: Target) -> None:
    timed = stack.launch(earned_in_attempts(target.port))
    timed.wait_for("TASK_RUNNING")
    part = stack.parts["health"]
    part.argv = [*part.argv, "--aurora-rule", "attempts"]
    stack.restart("health")
    counted = stack.launch(earned_in_attempts(target.port))
    chosen = stack.launch(earned_in_attempts(target.port, rule="time"))
    counted.wait_for("TASK_RUNNING")
    chosen.wait_for("TASK_RUNNING")
    rules = [shown(stack, task).check.rule for task in (timed, counted, chosen)]
    assert rules == ["aurora-time", "aurora-attempts", "aurora-time"]


def test_aurora_wins_over_mesos(stack: Stack, target: Target) -> None:
    with_both = with_health(http_health(1, consecutive_failures=1))
    task = stack.launch(aurora(target.port), edit=with_both)
    task.wait_for("TASK_RUNNING")
    target.wait_requests(5)
    assert task.states == ["TASK_STARTING", "TASK_RUNNING"]


@pytest.mark.parametrize("how", ["file", "call"])
def test_a_snoozed_task_is_not_probed_and_wakes(stack: Stack, target: Target, how: str) -> None:
    task = stack.launch(aurora(target.port, rule="attempts"))
    task.wait_for("TASK_RUNNING")
    path = f"{task.sandbox}/{SNOOZE_FILE}"
    if how == "file":
        with open(path, "w"):
            pass
    else:
        snooze(stack, task, 600)
    before = watch_until(stack, task, lambda check: check.snoozed)
    target.status = 503
    seen = len(target.requests)
    # A new service goes on with it.
    stack.restart("health")
    if how == "file":
        watch_until(stack, task, lambda check: check.snoozes > before.snoozes + 5)
    else:
        assert 590 < shown(stack, task).check.snoozed_for_secs <= 600
    assert len(target.requests) == seen
    assert task.states == ["TASK_STARTING", "TASK_RUNNING"]
    if how == "file":
        os.unlink(path)
    else:
        snooze(stack, task, 0)
    assert task.wait_end() == "TASK_FAILED"


def test_a_snoozed_task_that_has_not_passed_stays_starting(stack: Stack, target: Target) -> None:
    target.status = 503
    # Were it counted, the snooze would be longer than the interval.
    task = stack.launch(aurora(target.port, initial_interval_secs=2, timeout_secs=5))
    target.wait_requests(1)
    path = f"{task.sandbox}/{SNOOZE_FILE}"
    with open(path, "w"):
        pass
    watch_until(stack, task, lambda check: check.snoozes > 25)
    assert task.states == ["TASK_STARTING"]
    target.status = 200
    os.unlink(path)
    task.wait_for("TASK_RUNNING")


def test_two_tasks_of_one_executor_are_judged_apart(stack: Stack, target: Target) -> None:
    good = stack.launch(aurora(target.port, initial_interval_secs=SOON), executor="shared")
    good.wait_for("TASK_RUNNING")
    refused = http_health(1, consecutive_failures=2)
    bad = stack.launch(
        {"processes": [{"name": "p", "cmdline": "exec sleep 600"}]}, executor="shared", edit=with_health(refused)
    )
    assert bad.wait_end() == "TASK_KILLED"
    assert "Connection refused" in bad.statuses[-1].message
    target.wait_requests(5)
    assert good.states == ["TASK_STARTING", "TASK_RUNNING"]
    target.status = 500
    assert good.wait_end() == "TASK_FAILED"
    assert bad.coordinator() == good.coordinator()


def test_a_turn_is_told_once(stack: Stack, target: Target) -> None:
    task: LaunchedTask = stack.launch(aurora(target.port, max_consecutive_failures=100_000, initial_interval_secs=1))
    task.wait_for("TASK_RUNNING")
    target.status = 503
    told_healthy(task, healthy=False)
    count = len(task.statuses)
    target.wait_requests(15)
    target.status = 200
    told_healthy(task, healthy=True)
    assert len(task.statuses) == count + 1
