"""The lifecycle endpoints: who has them, with which port, and what is said when there is none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mesos.v1 import mesos_pb2
from services.common.task import Lifecycle, LoadedTask, load

TASK: dict[str, Any] = {"processes": [{"name": "a", "cmdline": ""}]}
DEFAULTS = Lifecycle(80, "/quitquitquit", 5.0, "/abortabortabort", 5.0)


PLACE = {"role": "r", "cluster": "c", "environment": "e"}


def loaded(document: dict[str, Any], **ports: int) -> LoadedTask:
    info = mesos_pb2.TaskInfo(data=json.dumps(document).encode())
    for name, number in ports.items():
        info.discovery.ports.ports.add(name=name, number=number)
    return load(info, hostname="h")


def test_a_job_has_the_default_endpoints_when_its_port_has_a_number() -> None:
    assert loaded({"task": TASK}, health=80).lifecycle == DEFAULTS
    without = loaded({"task": TASK} | PLACE, http=80)
    assert without.lifecycle is None
    assert without.warnings == ()


def test_a_job_with_an_empty_lifecycle_has_none() -> None:
    assert loaded({"task": TASK, "lifecycle": {}}, health=80).lifecycle is None


def test_a_null_lifecycle_is_one_that_is_not_given() -> None:
    assert loaded({"task": TASK, "lifecycle": None}, health=80).lifecycle == DEFAULTS


@pytest.mark.parametrize("document", [TASK, {"task": TASK, "instance": 1}])
def test_a_bare_task_and_an_instance_have_only_what_they_bring(document: dict[str, Any]) -> None:
    assert loaded(document, health=80).lifecycle is None
    assert loaded(document | {"lifecycle": {"http": {}}}, health=80).lifecycle == DEFAULTS


def test_every_field_counts_and_is_coerced() -> None:
    http = {
        "port": "admin",
        "graceful_shutdown_endpoint": "/bye",
        "shutdown_endpoint": "/now",
        "graceful_shutdown_wait_secs": "7",
        "shutdown_wait_secs": 0,
    }
    lifecycle = loaded({"task": TASK, "lifecycle": {"http": http}}, admin=81, health=80).lifecycle
    assert lifecycle == Lifecycle(81, "/bye", 7.0, "/now", 0.0)
    assert lifecycle.steps == (("/bye", 7.0), ("/now", 0.0))


def test_the_port_is_found_through_aliases() -> None:
    document = {"task": TASK, "announce": {"portmap": {"health": "http"}}}
    assert loaded(document, http=80).lifecycle == DEFAULTS


def test_a_port_without_a_number_is_a_warning_when_the_lifecycle_is_given() -> None:
    got = loaded({"task": TASK, "lifecycle": {"http": {"port": "x"}}} | PLACE)
    assert got.lifecycle is None
    assert got.warnings == ('lifecycle.http.port: no port is named "x": the task is not asked before it is signalled',)


def test_endpoints_may_have_templates() -> None:
    http = {"shutdown_endpoint": "/stop/{{thermos.task_id}}/{{role}}"}
    info = mesos_pb2.TaskInfo(
        data=json.dumps({"task": TASK, "role": "www", "lifecycle": {"http": http}}).encode(),
        task_id=mesos_pb2.TaskID(value="t1"),
    )
    info.discovery.ports.ports.add(name="health", number=80)
    lifecycle = load(info, hostname="h").lifecycle
    assert lifecycle is not None
    assert lifecycle.shutdown_endpoint == "/stop/t1/www"
