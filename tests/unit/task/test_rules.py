"""Every rejection rule: one broken task, one violation, with its place."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mesos.v1 import mesos_pb2
from services.common.task import InvalidTask, load, parse_json

A: dict[str, Any] = {"name": "a", "cmdline": "true"}
B: dict[str, Any] = {"name": "b", "cmdline": "true"}


def violations(document: object) -> list[str]:
    with pytest.raises(InvalidTask) as caught:
        parse_json(json.dumps(document))
    assert str(caught.value) == "; ".join(caught.value.violations)
    assert "\n" not in str(caught.value)
    return caught.value.violations


def only(document: object) -> str:
    (violation,) = violations(document)
    return violation


@pytest.mark.parametrize(
    ("process", "violation"),
    [
        ({"cmdline": "true"}, "name: is required"),
        ({"name": "", "cmdline": "true"}, "name: must not be empty"),
        ({"name": ".a", "cmdline": "true"}, "name: must not start with a dot"),
        ({"name": "..", "cmdline": "true"}, "name: must not start with a dot"),
        ({"name": "a/b", "cmdline": "true"}, "name: must not contain a slash or NUL: it names a directory"),
        ({"name": "a\0b", "cmdline": "true"}, "name: must not contain a slash or NUL: it names a directory"),
        ({"name": "é" * 128, "cmdline": "true"}, "name: must not be longer than 255 bytes: it names a directory"),
        ({"name": "a"}, "cmdline: is required"),
        ({"name": "a", "cmdline": "a\0b"}, "cmdline: must not contain NUL"),
        ({"name": "a", "cmdline": "é" * 65536}, "cmdline: must not be longer than 131071 bytes: the kernel refuses it"),
        (A | {"max_failures": -1}, "max_failures: must not be negative, is -1"),
        (A | {"min_duration": -1}, "min_duration: must not be negative, is -1"),
        (
            A | {"logger": {"destination": "tape"}},
            'logger.destination: must be file or console or both or none, is "tape"',
        ),
        (A | {"logger": {"mode": "x"}}, 'logger.mode: must be standard or rotate, is "x"'),
        (A | {"logger": {"rotate": {"log_size": 0}}}, "logger.rotate.log_size: must be at least 1 byte, is 0"),
        (A | {"logger": {"rotate": {"backups": 0}}}, "logger.rotate.backups: must be at least 1, is 0"),
        (A | {"resources": {"cpu": 1, "ram": 1}}, "resources.disk: is required"),
        (A | {"resources": {"cpu": 1, "ram": -5, "disk": 1}}, "resources.ram: must not be negative, is -5"),
        (A | {"min_duration": 2**40}, f"min_duration: must not be more than 315360000 s, is {2**40}"),
    ],
)
def test_a_process_that_breaks_a_rule_is_named_with_its_place(process: dict[str, Any], violation: str) -> None:
    assert only({"processes": [B, process]}) == f"processes[1].{violation}"
    assert only({"task": {"processes": [B, process]}}) == f"task.processes[1].{violation}"


@pytest.mark.parametrize(
    ("task", "violation"),
    [
        ({"processes": []}, "processes: must not be empty"),
        ({"processes": [A, A]}, 'processes[1].name: another process is called "a"'),
        ({"processes": [A], "max_failures": -1}, "max_failures: must not be negative, is -1"),
        ({"processes": [A], "max_concurrency": -1}, "max_concurrency: must not be negative, is -1"),
        ({"processes": [A], "finalization_wait": -1}, "finalization_wait: must not be negative, is -1"),
        (
            {"processes": [A], "finalization_wait": 2**62},
            f"finalization_wait: must not be more than 315360000 s, is {2**62}",
        ),
        ({"processes": [A], "resources": {"ram": 1, "disk": 1}}, "resources.cpu: is required"),
        ({"processes": [A], "resources": {"cpu": 1, "ram": None, "disk": 1}}, "resources.ram: is required"),
        ({"processes": [A], "resources": {"cpu": 1, "ram": 1, "gpu": 1}}, "resources.disk: is required"),
        ({"processes": [A], "user": "a b"}, 'user: "a b" is not the name of a user'),
        ({"processes": [A], "constraints": [{}]}, "constraints[0].order: must not be empty"),
        ({"processes": [A], "constraints": [{"order": ["a", "z"]}]}, 'constraints[0].order: no process is called "z"'),
        (
            {"processes": [A, B | {"final": True}], "constraints": [{"order": ["a", "b"]}]},
            'constraints[0].order: mixes the final process "b" with others that are not final',
        ),
        (
            {"processes": [A | {"daemon": True}, B], "constraints": [{"order": ["a", "b"]}]},
            'constraints[0].order: "b" waits for the daemon "a", which never ends',
        ),
        (
            {"processes": [A | {"ephemeral": True}, B], "constraints": [{"order": ["a", "b"]}]},
            'constraints[0].order: "b" waits for the ephemeral process "a", but is not ephemeral itself',
        ),
        (
            {"processes": [A], "constraints": [{"order": ["a", "a"]}]},
            'constraints: processes wait for each other: "a" -> "a"',
        ),
        (
            {"processes": [A, B], "constraints": [{"order": ["a", "b"]}, {"order": ["b", "a"]}]},
            'constraints: processes wait for each other: "b" -> "a" -> "b"',
        ),
    ],
)
def test_a_task_that_breaks_a_rule_is_named_with_its_place(task: dict[str, Any], violation: str) -> None:
    assert only(task) == violation
    assert only({"task": task}) == f"task.{violation}"


@pytest.mark.parametrize(
    ("config", "violation"),
    [
        ({"interval_secs": -1}, "interval_secs: must not be negative, is -1.0"),
        ({"timeout_secs": -1}, "timeout_secs: must be more than 0 s, is -1.0"),
        ({"initial_interval_secs": -1}, "initial_interval_secs: must not be negative, is -1.0"),
        ({"max_consecutive_failures": -1}, "max_consecutive_failures: must not be negative, is -1"),
        ({"min_consecutive_successes": -1}, "min_consecutive_successes: must not be negative, is -1"),
        ({"interval_secs": 1e300}, "interval_secs: must not be more than 315360000 s, is 1e+300"),
        ({"rule": "luck"}, 'rule: must be time or attempts, is "luck"'),
        ({"health_checker": {"shell": {}}}, "health_checker.shell.shell_command: is required"),
        (
            {"health_checker": {"http": {"endpoint": "/ HTTP/1.1\r\nX: y"}}},
            "health_checker.http.endpoint: must start with a slash and be ASCII without blanks",
        ),
        (
            {"health_checker": {"http": {"expected_response_code": 1000}}},
            "health_checker.http.expected_response_code: must be from 0 to 999, is 1000",
        ),
    ],
)
def test_a_health_check_that_breaks_a_rule_is_named_with_its_place(config: dict[str, Any], violation: str) -> None:
    assert only({"task": {"processes": [A]}, "health_check_config": config}) == f"health_check_config.{violation}"


@pytest.mark.parametrize(
    ("config", "violation"),
    [
        ({"port": ""}, "port: must not be empty"),
        ({"graceful_shutdown_endpoint": ""}, "graceful_shutdown_endpoint: must start with a slash and be ASCII"),
        ({"shutdown_endpoint": "/a b"}, "shutdown_endpoint: must start with a slash and be ASCII"),
        ({"shutdown_endpoint": "/a\r\nHost: x"}, "shutdown_endpoint: must start with a slash and be ASCII"),
        ({"graceful_shutdown_wait_secs": -1}, "graceful_shutdown_wait_secs: must not be negative, is -1"),
        ({"shutdown_wait_secs": 2**40}, "shutdown_wait_secs: must not be more than 315360000 s"),
        ({"shutdown_wait_secs": "soon"}, "shutdown_wait_secs: must be a whole number, not a string"),
    ],
)
def test_a_lifecycle_that_breaks_a_rule_is_named_with_its_place(config: dict[str, Any], violation: str) -> None:
    found = only({"task": {"processes": [A]}, "lifecycle": {"http": config}})
    assert found.startswith(f"lifecycle.http.{violation}")


def test_a_role_and_an_instance_that_break_a_rule_are_named_with_their_places() -> None:
    job = {"task": {"processes": [A]}}
    assert only(job | {"role": "a b"}) == 'role: "a b" is not the name of a user'
    assert only(job | {"instance": -1}) == "instance: must not be negative, is -1"


def test_all_violations_come_in_one_error() -> None:
    found = violations({"processes": [{}, A, A], "max_concurrency": -1, "constraints": [{"order": ["a", "a"]}]})
    assert [violation.split(":")[0] for violation in found] == [
        "processes[0].name",
        "processes[0].cmdline",
        "processes[2].name",
        "constraints",
        "max_concurrency",
    ]


def test_a_hostile_number_of_violations_is_bounded() -> None:
    found = violations({"processes": [{} for _ in range(5000)]})
    assert len(found) == 101
    assert found[-1] == "and 9900 more"


def test_a_violation_never_shows_a_command_line() -> None:
    error = "; ".join(violations({"processes": [{"name": "a", "cmdline": "PASSWORD=hunter2\0"}]}))
    assert "hunter2" not in error


def test_what_thermos_accepts_is_accepted() -> None:
    names = ["with blank", 'quote"', "tab\t", "*", "$HOME", "grün", "a.b", "n" * 200, "a%b"]
    task, warnings = parse_json(
        json.dumps(
            {
                "processes": [{"name": name, "cmdline": ""} for name in names],
                "constraints": [{"order": names}],
                "max_failures": 0,
                "finalization_wait": 0,
            }
        )
    )
    assert [process.name for process in task.task.processes] == names
    assert warnings == ()


def test_ephemerals_and_daemons_may_wait_for_others() -> None:
    daemon = {"name": "d", "cmdline": "true", "daemon": True, "ephemeral": True}
    ephemeral = {"name": "e", "cmdline": "true", "ephemeral": True}
    orders = [{"order": ["a", "d"]}, {"order": ["a", "e"]}]
    parse_json(json.dumps({"processes": [A, daemon, ephemeral], "constraints": orders}))


def test_the_form_of_the_data_decides_whether_the_error_is_auroras() -> None:
    for document, aurora in (({"processes": []}, False), ({"task": {"processes": []}}, True)):
        info = mesos_pb2.TaskInfo(data=json.dumps(document).encode())
        with pytest.raises(InvalidTask) as caught:
            load(info, hostname="h")
        assert caught.value.aurora is aurora


def test_an_ephemeral_process_may_wait_for_an_ephemeral_one() -> None:
    processes = [A | {"ephemeral": True}, B | {"ephemeral": True}]
    parse_json(json.dumps({"processes": processes, "constraints": [{"order": ["a", "b"]}]}))


@pytest.mark.parametrize("resources", [None, {"cpu": 0, "ram": 0, "disk": 0}])
def test_no_resources_at_all_and_zeros_are_allowed(resources: object) -> None:
    parse_json(json.dumps({"processes": [A | {"resources": resources}], "resources": resources}))


def test_every_fault_of_the_orders_is_named() -> None:
    c, d = A | {"name": "c", "daemon": True}, A | {"name": "d", "ephemeral": True}
    orders = [["b", "a"], ["a", "b"], ["a", "a"], ["x", "c", "a", "y", "c", "b"], ["d", "a"]]
    with pytest.raises(InvalidTask) as caught:
        load(
            mesos_pb2.TaskInfo(
                data=json.dumps(
                    {"processes": [A, B, c, d], "constraints": [{"order": order} for order in orders]}
                ).encode()
            ),
            hostname="h",
        )
    assert caught.value.violations == [
        'constraints[3].order: no process is called "x"',
        'constraints[3].order: no process is called "y"',
        'constraints[3].order: "a" waits for the daemon "c", which never ends',
        'constraints[3].order: "b" waits for the daemon "c", which never ends',
        'constraints[4].order: "a" waits for the ephemeral process "d", but is not ephemeral itself',
        'constraints: processes wait for each other: "a" -> "a"',
        'constraints: processes wait for each other: "b" -> "a" -> "b"',
    ]
