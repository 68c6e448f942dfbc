"""Aurora's AssignedTask in thrift's binary form: what is taken from it, and what is forgiven."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from thrift.Thrift import TType

from mesos.v1 import mesos_pb2
from services.common.task import load, parse_json, referenced_ports
from tests.unit.task.assigned_task import JOB, assigned, config, info, loaded
from tests.unit.task.thrift_writer import boolean, encode, i32, i64, many, pairs, struct, text


def test_task_id_instance_host_ports_and_role_come_from_the_scheduler() -> None:
    task = loaded(assigned())
    assert task.task.task.processes[0].cmdline == "www-prod-shop-3-7f0e www 3 host7.example 31337"
    assert (task.user, task.name, task.aurora) == ("www", "shop", True)
    assert task.ports == {"http": 31337, "admin": 31338}
    assert task.warnings == ()


def test_what_the_scheduler_says_replaces_what_the_job_and_the_task_info_say() -> None:
    said = JOB | {"instance": 9, "environment": "devel"}
    task = info(encode(assigned(_4=struct(config(json.dumps(said))), _1=text("other"))))
    task.discovery.ports.ports.add(name="http", number=80)
    got = load(task, hostname="unused")
    assert got.task.task.processes[0].cmdline == "other www 3 host7.example 31337"
    assert got.warnings == (
        "AssignedTask.instanceId: replaces 9",
        'AssignedTask.task.job.environment: replaces "devel"',
        "AssignedTask.assignedPorts.http: replaces 80",
        'AssignedTask.taskId: replaces "www-prod-shop-3-7f0e"',
    )


def test_a_job_an_instance_and_a_bare_task_may_be_inside() -> None:
    instance = {"task": JOB["task"], "instance": 3, "role": "www", "environment": "prod"}
    for document in (JOB, instance, JOB["task"]):
        task = loaded(assigned(_4=struct(config(json.dumps(document)))))
        assert task.task.task.processes[0].cmdline.split() == [
            "www-prod-shop-3-7f0e",
            "www",
            "3",
            "host7.example",
            "31337",
        ]
        assert task.aurora


def test_a_job_of_the_scheduler_that_wants_to_be_announced_is_told_that_it_is_not() -> None:
    job = json.dumps(JOB | {"announce": {}})
    told = "announce: the task is not announced, only the names of its ports are used"
    assert loaded(assigned(_4=struct(config(job)))).warnings == (told,)
    alone = json.dumps(JOB | {"announce": {"portmap": {"http": 1}}, "instance": 3})
    assert load(info(alone.encode()), hostname="h").warnings == ()


def test_another_executor_name_is_no_objection() -> None:
    assert loaded(assigned(_4=struct(config(_25=struct({1: text("mine"), 2: text(json.dumps(JOB))}))))).name == "shop"


def test_the_role_of_older_schedulers_is_the_owners() -> None:
    fields = config(json.dumps({"task": {"processes": [{"name": "a", "cmdline": ""}]}}))
    del fields[28]
    fields[17] = struct({1: text("ads"), 2: text("somebody")})
    assert loaded(assigned(_4=struct(fields))).user == "ads"


def test_the_job_keys_role_goes_before_the_owners() -> None:
    fields = config(json.dumps({"task": {"processes": [{"name": "a", "cmdline": ""}]}}))
    fields[17] = struct({1: text("ads"), 2: text("somebody")})
    assert loaded(assigned(_4=struct(fields))).user == "www"


def test_a_submitter_is_no_role() -> None:
    fields = config(json.dumps({"task": {"processes": [{"name": "a", "cmdline": ""}]}}))
    del fields[28]
    assert loaded(assigned(_4=struct(fields))).user == ""


def test_fields_that_are_missing_leave_the_jobs_own() -> None:
    minimal = {4: struct({25: struct({2: text(json.dumps(JOB | {"instance": 5}))})})}
    task = info(encode(minimal))
    task.discovery.ports.ports.add(name="http", number=80)
    got = load(task, hostname="here")
    assert got.task.task.processes[0].cmdline == "www-prod-shop-3-7f0e www 5 here 80"


def test_unknown_fields_of_every_type_are_passed_over() -> None:
    strange = {
        100: many(TType.LIST, TType.MAP, [(TType.STRING, TType.SET, [("k", (TType.I64, [1, 2]))])]),
        101: many(TType.SET, TType.LIST, [(TType.BOOL, [True, False]), (TType.DOUBLE, [1.5])]),
        102: struct({1: struct({2: struct({})})}),
        103: text(b"\xff\xfe not UTF-8"),
        104: pairs(TType.I32, TType.STRUCT, [(1, {1: text("x")})]),
        32767: boolean(True),
        -1: i64(-1),
    }
    fields = {4: struct(strange | config() | {200: text("x")}), **strange}
    assert loaded(assigned() | fields).warnings == ()


def test_bytes_behind_it_are_a_warning() -> None:
    assert load(info(encode(assigned()) + b"ab"), hostname="h").warnings == (
        "AssignedTask: 2 bytes behind it, ignored",
    )


def test_parsing_alone_reads_it_too() -> None:
    task, warnings = parse_json(encode(assigned()))
    assert (task.instance, task.role, warnings) == (3, "www", ())
    assert referenced_ports(task) == {"http"}


SIMPLE = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@given(
    SIMPLE,
    SIMPLE,
    st.dictionaries(st.from_regex(r"[\w-]{1,9}", fullmatch=True), st.integers(1, 65535), max_size=5),
    st.integers(0, 2**31 - 1),
)
def test_what_is_written_is_what_is_loaded(task_id: str, host: str, ports: dict[str, int], instance: int) -> None:
    document = {"task": {"processes": [{"name": "a", "cmdline": "{{mesos.instance}} {{mesos.hostname}}"}]}}
    fields = assigned(
        _1=text(task_id),
        _3=text(host),
        _4=struct(config(json.dumps(document))),
        _5=pairs(TType.STRING, TType.I32, list(ports.items())),
        _6=i32(instance),
    )
    task = load(info(encode(fields)), hostname="here")
    assert task.ports == ports
    assert task.task.task.processes[0].cmdline == f"{instance} {host or 'here'}"


@pytest.mark.parametrize("blank", ["\n", "\r\n", "\t", " "])
def test_json_that_begins_with_white_space_is_json(blank: str) -> None:
    data = (blank + json.dumps({"processes": [{"name": "a", "cmdline": ""}]})).encode()
    assert load(mesos_pb2.TaskInfo(data=data), hostname="h").name == "a"
