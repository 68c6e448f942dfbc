"""What of a task's definition becomes its check."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mesos.v1 import mesos_pb2
from services.common.keys import Executor, TaskKey
from services.health.rules import Limits
from services.health.spec import HttpTarget, ShellTarget, Spec, spec_of_info, spec_of_json
from tests.unit.health.tasks import hello, task_info

KEY = TaskKey(Executor("f", "e", "i"), "t", 1)


def spec(
    health: dict[str, Any] | None = None, ports: dict[str, int] | None = None, uid: int = 1000, **task: Any
) -> Spec:
    made = spec_of_info(task_info(health, ports, **task), hello(uid))
    assert made is not None
    return made


def test_a_job_with_a_port_named_health_is_checked_with_auroras_defaults() -> None:
    assert spec(ports={"health": 31001}) == Spec(
        HttpTarget(31001, "/health", "ok", 0), 1, Limits(15, 10, 0, 1), "aurora-time"
    )


def test_no_port_named_health_and_no_shell_is_no_check() -> None:
    assert spec_of_info(task_info(ports={"http": 31001}), hello()) is None
    assert spec_of_info(task_info({"health_checker": {"http": {"endpoint": "/x"}}}), hello()) is None


@pytest.mark.parametrize(
    "raw", [b"\xff\xff\xff", b"", mesos_pb2.TaskInfo(name="x", data=b"{").SerializePartialToString()]
)
def test_an_invalid_task_has_no_check(raw: bytes) -> None:
    assert spec_of_info(raw, hello()) is None


def test_shell_wins_over_http() -> None:
    config = {"health_checker": {"http": {}, "shell": {"shell_command": "test -e ok"}}}
    target = spec(config, {"health": 31001}).target
    assert isinstance(target, ShellTarget)
    assert target.command == "test -e ok"


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ({}, 15),
        ({"initial_interval_secs": None}, 8),
        ({"initial_interval_secs": 0}, 0),
        ({"initial_interval_secs": 2.5}, 2.5),
    ],
)
def test_initial_interval_absent_null_zero_given(given: dict[str, Any], seconds: float) -> None:
    assert spec({"interval_secs": 4, **given}, {"health": 1025}).limits.initial_interval == seconds


@pytest.mark.parametrize(
    ("uid", "user", "expected"), [(0, None, "www"), (0, "web", "web"), (1000, None, ""), (1000, "web", "web")]
)
def test_a_shell_check_runs_as_the_tasks_user(uid: int, user: str | None, expected: str) -> None:
    task: dict[str, Any] = {} if user is None else {"user": user}
    probe = spec({"health_checker": {"shell": {"shell_command": "x"}}}, uid=uid, **task).probe(KEY, 7)
    assert list(probe.command.argv) == ["/bin/bash", "-c", "x"]
    assert probe.command.user == expected
    assert probe.command.cwd == "sandbox"
    env = {"HOME": "/mnt/mesos/sandbox/sandbox"}
    assert dict(probe.command.env) == (env | {"USER": expected, "LOGNAME": expected} if expected else env)


def test_an_http_probe_names_port_path_budget_and_id() -> None:
    probe = spec({"timeout_secs": 2.5, "health_checker": {"http": {"endpoint": "/up?x=1"}}}, {"health": 31001}).probe(
        KEY, 7
    )
    assert (probe.http.port, probe.http.path, probe.timeout_secs, probe.id) == (31001, "/up?x=1", 2.5, 7)
    assert TaskKey.of(probe.key) == KEY


def test_templates_in_the_shell_command_are_resolved() -> None:
    config = {"health_checker": {"shell": {"shell_command": "curl localhost:{{thermos.ports[http]}}"}}}
    target = spec(config, {"http": 31002}).target
    assert isinstance(target, ShellTarget)
    assert target.command == "curl localhost:31002"


def test_a_spec_survives_the_journal() -> None:
    for made in (spec(ports={"health": 31001}), spec({"health_checker": {"shell": {"shell_command": "x"}}}, uid=0)):
        assert spec_of_json(json.loads(json.dumps(made.to_json()))) == made


@pytest.mark.parametrize(
    "change", [{"rule": "aurora-future"}, {"kind": "tcp"}, {"target": {"port": 1}}, {"limits": {}}]
)
def test_a_foreign_spec_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not a health check"):
        spec_of_json({**spec(ports={"health": 31001}).to_json(), **change})
