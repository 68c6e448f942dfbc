"""TaskInfo to LoadedTask: templates, ports, user, health check, kill policy."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mesos.v1 import mesos_pb2
from services.common.task import InvalidTask, load, parse_json, referenced_ports
from services.common.task.checks import CommandTarget

PLACE: dict[str, Any] = {"role": "r", "cluster": "c", "environment": "e"}


def info(document: object, **ports: int) -> mesos_pb2.TaskInfo:
    task = mesos_pb2.TaskInfo(name="n", data=json.dumps(document).encode())
    task.task_id.value = "task-1"
    task.agent_id.value = "agent-1"
    for name, number in ports.items():
        task.discovery.ports.ports.add(name=name, number=number)
    return task


def command(cmdline: str, beside: dict[str, Any] | None = None, **ports: int) -> str:
    document = {"task": {"processes": [{"name": "a", "cmdline": cmdline}]}} | (beside or {})
    return load(info(document, **ports), hostname="host.example").task.task.processes[0].cmdline


def refusal(document: object, **ports: int) -> str:
    with pytest.raises(InvalidTask) as caught:
        load(info(document, **ports), hostname="host.example")
    return str(caught.value)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{thermos.ports[http]}}", "8080"),
        ("{{thermos.task_id}}-{{thermos.task_id}}", "task-1-task-1"),
        ("{{thermos.user}}", "www"),
        ("{{mesos.instance}}", "3"),
        ("{{mesos.hostname}}", "host.example"),
        ("${{{mesos.instance}}}", "${3}"),
        ("a{{b", "a{{b"),
        ("{{a} {b}}", "{{a} {b}}"),
        ("{{}}", "{{}}"),
        ("a{{b {{mesos.instance}}", "a{{b 3"),
        ("{ {mesos.instance} }", "{ {mesos.instance} }"),
    ],
)
def test_a_known_variable_is_replaced_and_a_literal_stays(template: str, text: str) -> None:
    assert command(template, {"role": "www", "instance": 3}, http=8080) == text


@pytest.mark.parametrize(
    ("template", "violation"),
    [
        ("{{ mesos.instance }}", '" mesos.instance " is not a variable'),
        ("{{.Id}}", '".Id" is not a variable'),
        ("{{&mesos.instance}}", '"&mesos.instance" is not a variable'),
        ("{{thermos.ports}}", '"thermos.ports": a port needs its name: thermos.ports[NAME]'),
        ("{{thermos.ports[admin]}}", '"thermos.ports[admin]": no port of this name is assigned'),
        ("{{thermos.ports[{{thermos.task_id}}]}}", "has a template reference inside another"),
        ("{{a{{{{thermos.task_id}}}}b}}", "has a template reference inside another"),
        ("{{mesos.instance}}", '"mesos.instance" has no value in this task'),
        ("{{thermos.user}}", '"thermos.user" has no value in this task'),
    ],
)
def test_a_reference_that_leads_nowhere_is_a_violation_with_its_place(template: str, violation: str) -> None:
    document = {"processes": [{"name": "a", "cmdline": template}]}
    assert refusal(document, http=1) == f"processes[0].cmdline: {violation}"


def test_every_reference_of_a_text_that_leads_nowhere_is_named() -> None:
    text = "{{nope}} {{thermos.ports[{{thermos.task_id}}]}} {{mesos.hostname}} {{thermos.ports[admin]}} {{nope}}"
    task = info({"processes": [{"name": "a", "cmdline": text}, {"name": "b", "cmdline": "{{x}}"}]})
    with pytest.raises(InvalidTask) as caught:
        load(task, hostname="h")
    assert caught.value.violations == [
        "processes[0].cmdline: has a template reference inside another",
        'processes[0].cmdline: "nope" is not a variable',
        'processes[0].cmdline: "thermos.ports[admin]": no port of this name is assigned',
        'processes[1].cmdline: "x" is not a variable',
    ]


def test_a_text_of_nothing_but_faults_is_told_in_short() -> None:
    task = info({"processes": [{"name": "a", "cmdline": "".join(f"{{{{v{n}}}}}" for n in range(10_000))}]})
    with pytest.raises(InvalidTask) as caught:
        load(task, hostname="h")
    assert len(caught.value.violations) <= 101


def test_a_reference_in_a_value_is_text() -> None:
    task = info({"processes": [{"name": "a", "cmdline": "{{mesos.hostname}}"}]})
    loaded = load(task, hostname="{{thermos.task_id}}")
    assert loaded.task.task.processes[0].cmdline == "{{thermos.task_id}}"


def test_names_and_constraints_are_resolved_before_the_rules_look_at_them() -> None:
    document = {
        "task": {
            "processes": [{"name": "w{{mesos.instance}}", "cmdline": ""}, {"name": "x", "cmdline": ""}],
            "constraints": [{"order": ["w{{mesos.instance}}", "x"]}],
        },
        "instance": 7,
    }
    assert load(info(document), hostname="h").task.task.constraints[0].order[0] == "w7"
    document = {"processes": [{"name": "{{thermos.task_id}}", "cmdline": ""}]}
    task = info(document)
    task.task_id.value = "../x"
    with pytest.raises(InvalidTask, match=r"processes\[0\].name: must not start with a dot"):
        load(task, hostname="h")


def test_the_shell_health_check_sees_every_variable() -> None:
    check = {"health_checker": {"shell": {"shell_command": "nc -z {{mesos.hostname}} {{thermos.ports[aurora]}}"}}}
    document = {"task": {"processes": [{"name": "a", "cmdline": ""}]}, "health_check_config": check, "announce": {}}
    health = load(info(document, http=80), hostname="h").health
    assert health is not None
    assert health.target == CommandTarget(("/bin/bash", "-c", "nc -z h 80"), text="nc -z h 80")


def test_port_names_are_followed_and_assigned_ports_win() -> None:
    announce = {"portmap": {"aurora": "web", "web": "http", "static": 9000, "http": "1", "lost": "nobody"}}
    document = {"task": {"processes": [{"name": "a", "cmdline": ""}]}, "announce": announce} | PLACE
    loaded = load(info(document, http=31000, extra=31001), hostname="h")
    assert loaded.ports == {"aurora": 31000, "web": 31000, "static": 9000, "http": 31000, "extra": 31001}
    assert loaded.warnings == ('announce.portmap.lost: no port is assigned to "nobody", the name is not used',)


@pytest.mark.parametrize("portmap", [{"a": "a"}, {"a": "b", "b": "a"}, {"x": "a", "a": "b", "b": "a"}])
def test_port_names_in_a_circle_are_violations(portmap: dict[str, str]) -> None:
    document = {"task": {"processes": [{"name": "a", "cmdline": ""}]}, "announce": {"portmap": portmap}}
    circle = sorted(portmap)
    assert refusal(document) == "; ".join(f"announce.portmap.{name}: port names form a circle" for name in circle)


def test_a_long_chain_of_port_names_is_resolved() -> None:
    chain = {f"p{n}": f"p{n + 1}" for n in range(20_000)} | {"p20000": "80"}
    document = {"task": {"processes": [{"name": "a", "cmdline": ""}]}, "announce": {"portmap": chain}}
    assert set(load(info(document), hostname="h").ports.values()) == {80}


def test_a_target_that_looks_like_a_number_is_one_even_if_a_name_does_too() -> None:
    for names in (("8080", "x"), ("x", "8080")):
        portmap = {name: {"8080": "http", "x": "8080"}[name] for name in names}
        document = {"task": {"processes": [{"name": "a", "cmdline": ""}]}, "announce": {"portmap": portmap}}
        assert load(info(document, http=1), hostname="h").ports == {"8080": 1, "x": 8080, "http": 1}


@pytest.mark.parametrize("number", [0, 65536, 4294967295])
def test_a_port_out_of_range_is_a_violation(number: int) -> None:
    assert "from 1 to 65535" in refusal({"processes": [{"name": "a", "cmdline": ""}]}, http=number)


def test_referenced_ports_are_those_that_somebody_must_assign() -> None:
    document = {
        "task": {
            "processes": [
                {"name": "a", "cmdline": "{{thermos.ports[aurora]}} {{thermos.ports[fixed]}} {{thermos.ports[x]}}"}
            ]
        },
        "announce": {"portmap": {"aurora": "http", "fixed": 80}},
        "health_check_config": {},
    }
    assert referenced_ports(parse_json(json.dumps(document))[0]) == {"http", "x", "health"}
    document["health_check_config"] = {"health_checker": {"shell": {"shell_command": "nc {{thermos.ports[y]}}"}}}
    assert referenced_ports(parse_json(json.dumps(document))[0]) == {"http", "x", "y"}
    document["lifecycle"] = {"http": {"port": "admin", "shutdown_endpoint": "/{{thermos.ports[z]}}"}}
    assert referenced_ports(parse_json(json.dumps(document))[0]) == {"http", "x", "y", "z", "admin"}
    document["announce"] = {"portmap": {"x": "x"}}
    assert "x" in referenced_ports(parse_json(json.dumps(document))[0])


def test_the_user_is_the_tasks_else_the_role_else_the_executors_own() -> None:
    task: dict[str, Any] = {"processes": [{"name": "a", "cmdline": ""}]}
    assert load(info(task), hostname="h").user == ""
    assert load(info({"task": task, "role": "www"}), hostname="h").user == "www"
    assert load(info({"task": task | {"user": "bob"}, "role": "www"}), hostname="h").user == "bob"


def test_the_executors_user_fills_the_template_when_the_task_names_none() -> None:
    task = info({"processes": [{"name": "a", "cmdline": "{{thermos.user}}"}]})
    task.executor.command.user = "carl"
    loaded = load(task, hostname="h")
    assert loaded.task.task.processes[0].cmdline == "carl"
    assert loaded.user == ""


def test_the_name_is_the_tasks_else_its_first_process() -> None:
    assert load(info({"processes": [{"name": "a", "cmdline": ""}]}), hostname="h").name == "a"
    assert load(info({"name": "n", "processes": [{"name": "a", "cmdline": ""}]}), hostname="h").name == "n"


def test_the_kill_policy_gives_the_grace() -> None:
    task = info({"processes": [{"name": "a", "cmdline": ""}]})
    assert load(task, hostname="h").kill_grace is None
    task.kill_policy.grace_period.nanoseconds = 1_500_000_000
    assert load(task, hostname="h").kill_grace == 1.5
    task.kill_policy.grace_period.nanoseconds = -1
    with pytest.raises(InvalidTask, match=r"TaskInfo\.kill_policy\.grace_period: must not be negative"):
        load(task, hostname="h")


def test_a_task_info_without_data_is_refused() -> None:
    with pytest.raises(InvalidTask, match="there is no task"):
        load(mesos_pb2.TaskInfo(), hostname="h")
    with pytest.raises(InvalidTask, match=r"TaskInfo\.command: is not supported"):
        load(mesos_pb2.TaskInfo(command=mesos_pb2.CommandInfo(value="true")), hostname="h")


def test_loading_twice_gives_the_same() -> None:
    task = info({"task": {"processes": [{"name": "a", "cmdline": "{{thermos.task_id}}"}]}})
    before = task.SerializeToString(deterministic=True)
    assert load(task, hostname="h") == load(task, hostname="h")
    assert task.SerializeToString(deterministic=True) == before
