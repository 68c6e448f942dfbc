"""`health_check_config` to a check: who is probed, what is expected, and what is refused with its place."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mesos.v1 import mesos_pb2
from services.common.task import LoadedTask, load, parse_json, referenced_ports
from services.common.task.checks import (
    CommandTarget,
    Expected,
    HealthCheck,
    HttpTarget,
    Loopback,
    Source,
    TcpTarget,
    describe,
    type_of,
)

PLACE: dict[str, Any] = {"role": "r", "cluster": "c", "environment": "e"}


def job(config: dict[str, Any] | None = None, **ports: int) -> LoadedTask:
    document: dict[str, Any] = {"task": {"processes": [{"name": "a", "cmdline": ""}]}} | PLACE
    if config is not None:
        document["health_check_config"] = config
    return load(info(document, **ports), hostname="h")


def info(document: object, **ports: int) -> mesos_pb2.TaskInfo:
    task = mesos_pb2.TaskInfo(name="n", data=json.dumps(document).encode())
    task.task_id.value = "task-1"
    task.agent_id.value = "agent-1"
    for name, number in ports.items():
        task.discovery.ports.ports.add(name=name, number=number)
    return task


def check(checker: dict[str, Any], **ports: int) -> HealthCheck:
    health = job({"health_checker": checker}, **ports).health
    assert health is not None
    return health


def test_a_job_with_a_port_named_health_has_auroras_defaults() -> None:
    assert job().health is None
    assert job(http=80).health is None
    assert job(health=80).health == HealthCheck(
        source=Source.AURORA,
        target=HttpTarget(80, "/health"),
        expected=Expected(body="ok"),
        rule=None,
        gates=True,
        delay=0,
        interval=10,
        timeout=1,
        grace=15,
        max_failures=0,
        min_successes=1,
    )


def test_shell_wins_over_all_others() -> None:
    loaded = job({"health_checker": {"http": {}, "tcp": {}, "shell": {"shell_command": "true"}}})
    assert loaded.health is not None
    assert loaded.health.target == CommandTarget(("/bin/bash", "-c", "true"), text="true")
    assert loaded.warnings == ("health_check_config.health_checker.tcp: not acted on: `shell` wins",)


def test_a_bare_task_has_no_health_check_unless_it_brings_one() -> None:
    document: dict[str, Any] = {"processes": [{"name": "a", "cmdline": ""}]}
    assert load(info(document, health=80), hostname="h").health is None
    document["health_check_config"] = {}
    loaded = load(info(document, health=80), hostname="h")
    assert loaded.health is not None
    assert not loaded.aurora


def test_a_health_check_without_auroras_port_is_a_warning() -> None:
    loaded = job({"interval_secs": 1})
    assert loaded.health is None
    assert loaded.warnings == ("health_check_config: no port is named `health`: there is no health check",)


def test_values_that_cannot_be_are_taken_as_the_nearest_that_can() -> None:
    loaded = job({"min_consecutive_successes": 0, "interval_secs": 0, "initial_interval_secs": None}, health=80)
    assert loaded.health is not None
    assert (loaded.health.min_successes, loaded.health.interval, loaded.health.grace) == (1, 0.1, 0.2)
    assert loaded.warnings == (
        "health_check_config.min_consecutive_successes: 0 is taken as 1",
        "health_check_config.interval_secs: 0 s is taken as 0.1 s",
    )


@pytest.mark.parametrize(
    ("given_", "grace"),
    [
        ({}, 15),
        ({"initial_interval_secs": None}, 8),
        ({"initial_interval_secs": 0}, 0),
        ({"initial_interval_secs": 2.5}, 2.5),
    ],
)
def test_the_initial_interval_absent_null_zero_given(given_: dict[str, Any], grace: float) -> None:
    health = job({"interval_secs": 4, **given_}, health=80).health
    assert health is not None
    assert health.grace == grace


@pytest.mark.parametrize(("word", "rule"), [(None, None), ("time", "aurora-time"), ("attempts", "aurora-attempts")])
def test_the_rule_is_the_tasks_or_left_to_the_service(word: str | None, rule: str | None) -> None:
    health = job({"rule": word}, health=80).health
    assert health is not None
    assert health.rule == rule


@pytest.mark.parametrize(
    ("http", "expected"),
    [
        ({}, Expected(body="ok")),
        ({"expected_response": "", "expected_response_code": 204}, Expected(((204, 204),))),
        ({"expected_response_codes": ["200-299", 404]}, Expected(((200, 299), (404, 404)), "ok")),
        ({"expected_response_codes": ["500", "200"]}, Expected(((200, 200), (500, 500)), "ok")),
    ],
)
def test_what_an_answer_must_be(http: dict[str, Any], expected: Expected) -> None:
    assert check({"http": http}, health=80).expected == expected


def test_an_expectation_of_nothing_is_a_warning() -> None:
    loaded = job({"health_checker": {"http": {"expected_response": " "}}}, health=80)
    assert loaded.warnings == ("health_check_config.health_checker.http: any answer is healthy, whatever its status",)


@pytest.mark.parametrize(
    ("checker", "target", "kind", "shown"),
    [
        (
            {
                "http": {
                    "port": 8443,
                    "scheme": "https",
                    "endpoint": "/up?x=1#top",
                    "headers": {"Host": "a", "X": "b c"},
                }
            },
            HttpTarget(8443, "/up?x=1", tls=True, headers={"Host": "a", "X": "b c"}),
            "https",
            "GET https://localhost:8443/up?x=1",
        ),
        (
            {"http": {"port": "admin", "protocol": "IPv6"}},
            HttpTarget(81, "/health", loopback=Loopback.IPV6),
            "http",
            "GET http://[::1]:81/health",
        ),
        ({"tcp": {}}, TcpTarget(80), "tcp", "connect to localhost:80"),
        (
            {"tcp": {"port": "alias", "protocol": "IPv4"}},
            TcpTarget(81, Loopback.IPV4),
            "tcp",
            "connect to 127.0.0.1:81",
        ),
        (
            {"command": {"argv": ["/bin/test", "-e", "a b"], "environment": {"K": "secret"}}},
            CommandTarget(("/bin/test", "-e", "a b"), {"K": "secret"}, "/bin/test -e 'a b'"),
            "command",
            "command \"/bin/test -e 'a b'\"",
        ),
        (
            {"shell": {"shell_command": "a\nb"}},
            CommandTarget(("/bin/bash", "-c", "a\nb"), text="a\nb"),
            "command",
            'shell command "a\\nb"',
        ),
    ],
)
def test_what_is_probed(checker: dict[str, Any], target: Any, kind: str, shown: str) -> None:
    document = {
        "task": {"processes": [{"name": "a", "cmdline": ""}]},
        "health_check_config": {"health_checker": checker},
        "announce": {"portmap": {"alias": "admin"}},
    } | PLACE
    loaded = load(info(document, health=80, admin=81), hostname="h")
    assert loaded.health is not None
    assert loaded.health.target == target
    assert type_of(target) == kind
    assert describe(target) == shown


def test_templates_are_resolved_in_every_text() -> None:
    http = {
        "endpoint": "/{{mesos.hostname}}",
        "port": "{{thermos.ports[x]}}",
        "headers": {"X-Task": "{{thermos.task_id}}", "X-Port": "{{thermos.ports[y]}}"},
    }
    config: dict[str, Any] = {"health_checker": {"http": http}}
    document = {"task": {"processes": [{"name": "a", "cmdline": ""}]}, "health_check_config": config}
    assert referenced_ports(parse_json(json.dumps(document))[0]) == {"x", "y"}
    loaded = load(info(document, x=81, y=82), hostname="h")
    assert loaded.health is not None
    assert loaded.health.target == HttpTarget(81, "/h", headers={"X-Task": "task-1", "X-Port": "82"})
    command = {"argv": ["p", "{{thermos.ports[z]}}"], "environment": {"P": "{{thermos.ports[x]}}"}}
    config["health_checker"] = {"command": command}
    assert referenced_ports(parse_json(json.dumps(document))[0]) == {"x", "z"}
    loaded = load(info(document, x=81, z=83), hostname="h")
    assert loaded.health is not None
    assert loaded.health.target == CommandTarget(("p", "83"), {"P": "81"}, "p 83")


@pytest.mark.parametrize(
    ("checker", "names"),
    [
        ({}, {"health"}),
        ({"http": {"port": "admin"}}, {"admin"}),
        ({"http": {"port": 80}}, set()),
        ({"tcp": {}}, {"health"}),
        ({"tcp": {"port": "81"}}, set()),
        ({"command": {"argv": ["x"]}}, set()),
    ],
)
def test_the_port_of_a_health_check_has_to_be_assigned(checker: dict[str, Any], names: set[str]) -> None:
    document = {"processes": [{"name": "a", "cmdline": ""}], "health_check_config": {"health_checker": checker}}
    assert referenced_ports(parse_json(json.dumps(document))[0]) == names
