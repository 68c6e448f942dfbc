"""Warnings: what is valid and may surprise."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mesos.v1 import mesos_pb2
from services.common.task import load
from services.common.task.offline import examine

A: dict[str, Any] = {"name": "a", "cmdline": "true"}
F: dict[str, Any] = {"name": "f", "cmdline": "true", "final": True}
JOB = {"role": "www", "cluster": "east", "environment": "prod"}


@pytest.mark.parametrize(
    ("task", "warning"),
    [
        (
            {"processes": [A | {"ephemeral": True}, F]},
            "task.processes: every process is ephemeral: there is nothing that the task would wait for",
        ),
        ({"processes": [F]}, "task.processes: every process is final: there is nothing that the task would wait for"),
        (
            {"processes": [A, F], "finalization_wait": 0},
            "task.finalization_wait: 0 leaves no time for the final processes: they are skipped",
        ),
        (
            {"processes": [A | {"daemon": True, "min_duration": 0}]},
            "task.processes[0].min_duration: 0 starts the daemon again without a pause, however quickly it ends",
        ),
    ],
)
def test_what_may_surprise_is_a_warning(task: dict[str, Any], warning: str) -> None:
    info = mesos_pb2.TaskInfo(data=json.dumps({"task": task, **JOB}).encode())
    assert load(info, hostname="h").warnings == (warning,)


def test_what_auroras_client_would_refuse_is_told_to_those_who_ask() -> None:
    job = {
        "task": {"processes": [A], "resources": {"cpu": 0, "ram": 0, "disk": 5}},
        "role": "a#b",
        "name": "ok-1.x",
        "environment": "prod",
        "announce": {"portmap": {"x": 80}},
    }
    data = json.dumps(job).encode()
    unnamed = "cluster: not given, as Aurora always does"
    assert examine(data, {}).warnings == (unnamed,)
    assert set(examine(data, {}, aurora=True).warnings) == {
        "task.resources.cpu: Aurora's client wants more than 0",
        "task.resources.ram: Aurora's client wants more than 0",
        unnamed,
        'role: Aurora\'s client wants letters, digits, dots, - and _ alone, not "a#b"',
        "announce.portmap.x: Aurora's client wants a number only in dedicated jobs",
    }
    missing = json.dumps({"task": {"processes": [A]}}).encode()
    assert "task.resources: Aurora's client wants cpu, ram and disk" in examine(missing, {}, aurora=True).warnings


@pytest.mark.parametrize("missing", list(JOB))
def test_a_job_or_an_instance_without_its_place_in_the_cluster_is_told_and_runs(missing: str) -> None:
    given = {name: text for name, text in JOB.items() if name != missing}
    for form in ({}, {"instance": 3}):
        info = mesos_pb2.TaskInfo(data=json.dumps({"task": {"processes": [A]}, **given, **form}).encode())
        expected = f"{missing}: not given, as Aurora always does"
        assert load(info, hostname="h").warnings == (expected,)
    assert load(mesos_pb2.TaskInfo(data=json.dumps({"processes": [A]}).encode()), hostname="h").warnings == ()


@pytest.mark.parametrize(
    ("wait", "policy", "warning"),
    [
        (4, None, "waits of 10 s are cut to 2 s: task.finalization_wait is 4 s, half of it is for SIGTERM"),
        (30, 3, "waits of 10 s are cut to 1.5 s: TaskInfo.kill_policy.grace_period is 3 s, half of it is for SIGTERM"),
        (20, None, None),
        (4, 20, None),
    ],
)
def test_lifecycle_waits_that_would_leave_no_time_for_sigterm_are_a_warning(
    wait: int, policy: int | None, warning: str | None
) -> None:
    job = {"task": {"processes": [A], "finalization_wait": wait}, "lifecycle": {"http": {"port": "admin"}}}
    info = mesos_pb2.TaskInfo(data=json.dumps(job).encode())
    info.discovery.ports.ports.add(name="admin", number=8080)
    if policy is not None:
        info.kill_policy.grace_period.nanoseconds = policy * 10**9
    expected = () if warning is None else (f"lifecycle.http: {warning}",)

    def told(warnings: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(text for text in warnings if text.startswith("lifecycle"))

    assert told(load(info, hostname="h").warnings) == expected
    if policy is None:
        assert told(examine(info.data, {"admin": 8080}).warnings) == expected
