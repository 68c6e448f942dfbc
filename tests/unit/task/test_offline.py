"""A task looked at without an agent."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from thrift.Thrift import TType

from mesos.v1 import mesos_pb2
from services.common.task.offline import examine
from tests.unit.task.thrift_writer import encode, i32, pairs, struct, text


def task(cmdline: str = "") -> dict[str, Any]:
    return {"processes": [{"name": "a", "cmdline": cmdline}]}


def dumped(document: object) -> bytes:
    return json.dumps(document).encode()


def task_info(document: object, **ports: int) -> mesos_pb2.TaskInfo:
    info = mesos_pb2.TaskInfo(name="n", data=dumped(document))
    info.task_id.value = "task-1"
    info.agent_id.value = "agent-1"
    for name, number in ports.items():
        info.discovery.ports.ports.add(name=name, number=number)
    return info


def test_a_port_that_only_an_agent_assigns_is_no_violation() -> None:
    examined = examine(dumped(task("{{thermos.ports[http]}}")), {})
    assert examined.violations == ()
    assert examined.ports == {"http": None}


def test_a_given_port_has_its_number_and_its_aliases_too() -> None:
    job = {"task": task("{{thermos.ports[web]}}"), "announce": {"portmap": {"web": "http", "x": "y", "z": 9}}}
    assert examine(dumped(job), {}).ports == {"web": None, "http": None, "x": None, "y": None, "z": 9}
    examined = examine(dumped(job), {"http": 80})
    assert examined.ports == {"web": 80, "http": 80, "x": None, "y": None, "z": 9}
    assert examined.loaded is not None
    assert examined.loaded.task.task.processes[0].cmdline == "80"
    # A given alias is a port of its own.
    assert examine(dumped(job), {"web": 81}).ports == {"web": 81, "http": None, "x": None, "y": None, "z": 9}


def test_a_circle_of_ports_is_a_violation_here_too() -> None:
    job = {"task": task("{{thermos.ports[a]}}"), "announce": {"portmap": {"a": "b", "b": "a"}}}
    assert examine(dumped(job), {}).violations[0] == "announce.portmap.a: port names form a circle"


def test_a_jobs_instance_comes_from_the_scheduler_and_a_bare_tasks_from_nowhere() -> None:
    assert examine(dumped({"task": task("{{mesos.instance}}")}), {}).violations == ()
    assert examine(dumped(task("{{mesos.instance}}")), {}).violations == (
        'processes[0].cmdline: "mesos.instance" has no value in this task',
    )


def test_what_every_executor_knows_is_no_violation() -> None:
    assert examine(dumped(task("{{thermos.user}} {{thermos.task_id}} {{mesos.hostname}}")), {}).violations == ()


def test_health_and_lifecycle_may_depend_on_a_port_of_the_agent() -> None:
    job = examine(dumped({"task": task()}), {})
    assert (job.health_by_port, job.lifecycle_by_port) == (True, "health")
    with_port = examine(dumped({"task": task()}), {"health": 80})
    assert (with_port.health_by_port, with_port.lifecycle_by_port) == (False, "")
    assert with_port.loaded is not None
    assert with_port.loaded.health is not None
    bare = examine(dumped(task()), {})
    assert (bare.health_by_port, bare.lifecycle_by_port) == (False, "")
    # One that is given wants its port.
    place = {"role": "r", "cluster": "c", "environment": "e"}
    given_both = examine(dumped({"task": task(), "lifecycle": {"http": {}}, "health_check_config": {}} | place), {})
    assert given_both.ports == {"health": None}
    assert given_both.loaded is not None
    assert given_both.loaded.lifecycle is not None
    assert given_both.warnings == ()


@pytest.mark.parametrize("by_proto_name", [True, False])
def test_a_task_info_in_mesos_json(by_proto_name: bool) -> None:
    info = task_info(task("{{thermos.task_id}} {{thermos.ports[http]}} {{thermos.ports[x]}}"), http=80)
    written = json_format.MessageToDict(info, preserving_proto_field_name=by_proto_name) | {"unheard_of": 1}
    examined = examine(dumped(written), {"x": 1})
    assert (examined.form, examined.wrapping) == ("task", ("TaskInfo",))
    assert examined.loaded is not None
    assert examined.loaded.task.task.processes[0].cmdline == "task-1 80 1"
    # What is given wins.
    assert examine(dumped(written), {"http": 81}).ports == {"http": 81, "x": None}


def test_a_thrift_task_inside_of_a_task_info() -> None:
    fields = {
        4: struct({25: struct({2: text(json.dumps({"task": task("{{thermos.ports[http]}} {{thermos.task_id}}")}))})}),
        5: pairs(TType.STRING, TType.I32, [("http", 80)]),
        6: i32(3),
    }
    info = task_info({})
    info.data = encode(fields)
    for data, wrapping in (
        (encode(fields), ("AssignedTask",)),
        (json_format.MessageToJson(info).encode(), ("TaskInfo", "AssignedTask")),
    ):
        examined = examine(data, {})
        assert (examined.form, examined.wrapping, examined.violations) == ("job", wrapping, ())
        assert examined.ports == {"http": 80}
        assert examined.loaded is not None
        assert examined.loaded.task.instance == 3


@pytest.mark.parametrize(
    ("document", "violation"),
    [
        ({"task_id": {"value": "x"}}, "TaskInfo.data: is empty, there is no task"),
        ({"task_id": {"value": "x"}, "command": {"value": "true"}}, "TaskInfo.command: is not supported"),
        ({"task_id": {"value": "x"}, "data": "A"}, "TaskInfo: Failed to parse data field"),
        ({"task_id": 5, "data": ""}, "TaskInfo: Failed to parse"),
        ({"data": "e30="}, "the task must have `processes`"),
    ],
)
def test_a_task_info_that_cannot_be_read_is_told_as_one(document: object, violation: str) -> None:
    (found,) = examine(dumped(document), {}).violations
    assert found.startswith(violation)
    assert "\n" not in found


# How long an example takes says nothing where other tests run beside it.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
FIELDS = ["name", "task_id", "taskId", "agent_id", "data", "executor", "discovery", "resources", "kill_policy"]


@PATIENT
@given(
    st.dictionaries(st.sampled_from(FIELDS), JSON)
    | st.fixed_dictionaries({"task_id": st.fixed_dictionaries({"value": JSON}), "data": JSON})
)
def test_any_json_like_a_task_info_has_an_answer(document: object) -> None:
    examined = examine(dumped(document), {"http": 80})
    assert examined.violations or examined.loaded is not None


@PATIENT
@given(st.binary())
def test_any_bytes_have_an_answer(data: bytes) -> None:
    assert examine(data, {}).violations


@pytest.mark.parametrize(("value", "what"), [(-1, "negative"), (float("nan"), "finite")])
def test_of_an_interval_that_is_a_violation_nothing_is_warned(value: float, what: str) -> None:
    place = {"role": "r", "cluster": "c", "environment": "e"}
    checker = {"tcp": {"port": 80}}
    aurora = {"task": task(), "health_check_config": {"interval_secs": value, "health_checker": checker}, **place}
    info = task_info(task())
    info.health_check.type = mesos_pb2.HealthCheck.TCP
    info.health_check.tcp.port = 80
    info.health_check.interval_seconds = value
    for data in (dumped(aurora), json_format.MessageToJson(info).encode()):
        examined = examine(data, {})
        assert examined.warnings == ()
        (violation,) = examined.violations
        assert "interval_sec" in violation
        assert what in violation
