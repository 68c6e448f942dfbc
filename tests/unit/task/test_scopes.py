"""References to fields of the objects around a text (Thermos: scopes)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mesos.v1 import mesos_pb2
from services.common.task import InvalidTask, LoadedTask, load
from services.common.task.checks import CommandTarget
from services.common.task.templates import MAX_GROWTH


def loaded(document: object, hostname: str = "h") -> LoadedTask:
    info = mesos_pb2.TaskInfo(data=json.dumps(document).encode())
    info.task_id.value = "t1"
    return load(info, hostname=hostname)


def command(cmdline: str, process: dict[str, Any] | None = None, **job: Any) -> str:
    task = {"name": "shop", "max_concurrency": 3, "resources": {"cpu": 2, "ram": 1024, "disk": 1}}
    task |= {"processes": [{"name": "a", "cmdline": cmdline} | (process or {})]}
    return loaded({"task": task, "role": "www", "name": "job"} | job).task.task.processes[0].cmdline


def refusal(document: object) -> str:
    with pytest.raises(InvalidTask) as caught:
        loaded(document)
    return str(caught.value)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{name}}", "a"),
        ("{{role}}", "www"),
        ("{{max_concurrency}}", "3"),
        ("{{finalization_wait}}", "30"),
        ("{{daemon}}", "False"),
        ("{{resources.ram}}", "1024"),
        ("{{resources.cpu}}", "2.0"),
    ],
)
def test_a_field_of_an_object_around_is_a_variable_the_nearest_first(template: str, text: str) -> None:
    assert command(template) == text


def test_a_field_may_be_given_by_reference_itself() -> None:
    assert command("{{name}}-{{name}}", {"name": "{{mesos.instance}}.{{role}}"}, instance=4) == "4.www-4.www"
    assert command("{{environment}}", environment="{{cluster}}1", cluster="east") == "east1"
    # Below is resolved after above, and the other way round.
    document = {
        "processes": [{"name": "p", "cmdline": "{{user}}"}],
        "user": "{{name}}",
        "name": "n{{thermos.task_id}}",
    }
    assert loaded(document).task.task.processes[0].cmdline == "nt1"


def test_the_user_and_the_role_are_resolved_before_others_refer_to_them() -> None:
    got = loaded(
        {
            "task": {"processes": [{"name": "a", "cmdline": "{{thermos.user}} {{mesos.role}} {{mesos.cluster}}"}]},
            "role": "{{environment}}-{{cluster}}",
            "environment": "prod",
            "cluster": "east",
        }
    )
    assert got.user == "prod-east"
    assert got.task.task.processes[0].cmdline == "prod-east prod-east east"


def test_health_commands_and_orders_see_the_same() -> None:
    check = {"health_checker": {"shell": {"shell_command": "{{role}} {{interval_secs}} {{thermos.user}}"}}}
    task = {
        "name": "n",
        "processes": [{"name": "n", "cmdline": ""}, {"name": "b", "cmdline": ""}],
        "constraints": [{"order": ["{{name}}", "b"]}],
    }
    got = loaded({"task": task, "role": "www", "health_check_config": check})
    assert got.health is not None
    assert got.health.target == CommandTarget(("/bin/bash", "-c", "www 10.0 www"), text="www 10.0 www")
    assert list(got.task.task.constraints[0].order) == ["n", "b"]


@pytest.mark.parametrize(
    ("template", "violation"),
    [
        ("{{cmdline}}", '"cmdline" leads back to itself'),
        ("{{nothing}}", '"nothing" is not a variable'),
        ("{{environment}}", '"environment" is not a variable'),
        ("{{resources}}", '"resources" is no single value'),
        ("{{resources.colour}}", '"resources.colour" is not a variable'),
        ("{{resources.cpu.x}}", '"resources.cpu.x" is not a variable'),
        ("{{processes}}", '"processes" is not a variable'),
        ("{{logger.destination}}", '"logger.destination" has a template reference itself'),
    ],
)
def test_a_field_that_leads_nowhere_is_a_violation(template: str, violation: str) -> None:
    logger = {"destination": "{{name}}"}
    task = {
        "processes": [{"name": "a", "cmdline": template, "logger": logger}],
        "resources": {"cpu": 1, "ram": 1, "disk": 1},
    }
    text = refusal({"task": task})
    assert text.startswith(f"task.processes[0].cmdline: {violation}")


def test_a_circle_of_fields_is_a_violation() -> None:
    document = {"name": "{{user}}", "user": "{{name}}", "processes": [{"name": "a", "cmdline": "{{user}}"}]}
    assert "leads back to itself" in refusal(document)


def test_a_task_without_a_job_sees_nothing_of_what_is_beside_it() -> None:
    document = {"processes": [{"name": "a", "cmdline": "{{primary_port}}"}], "announce": {}}
    assert refusal(document) == 'processes[0].cmdline: "primary_port" is not a variable'


def test_a_value_from_outside_stays_text_wherever_it_is_put() -> None:
    document = {
        "task": {"processes": [{"name": "a", "cmdline": "{{environment}}"}]},
        "environment": "{{mesos.hostname}}",
    }
    got = loaded(document, hostname="{{thermos.task_id}}")
    assert got.task.task.processes[0].cmdline == "{{thermos.task_id}}"


def test_references_cannot_make_a_small_task_large() -> None:
    big = "x" * 100_000
    processes = [{"name": f"p{n}", "cmdline": "{{user}}"} for n in range(500)]
    assert f"longer by more than {MAX_GROWTH} bytes" in refusal({"user": big, "processes": processes})
    doubling = {"cluster": "x" * 60_000, "environment": "{{cluster}}" * 200, "name": "{{environment}}" * 200}
    assert f"longer by more than {MAX_GROWTH} bytes" in refusal({"task": {"processes": []}} | doubling)
