"""Aurora's AssignedTask in thrift's binary form: what is taken from it, what is forgiven, what is refused."""

from __future__ import annotations

import json
import struct as packing
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from thrift.Thrift import TType

from mesos.v1 import mesos_pb2
from services.common.task import InvalidTask, LoadedTask, load, parse_json, referenced_ports
from services.common.task.binary import MAX_VALUES
from services.common.task.schema import MAX_BYTES
from tests.unit.task.thrift_writer import Value, boolean, double, encode, i32, i64, many, pairs, struct, text

JOB: dict[str, Any] = {
    "name": "shop",
    "role": "www",
    "cluster": "east",
    "environment": "prod",
    "service": True,
    "task": {
        "name": "shop",
        "processes": [
            {
                "name": "serve",
                "cmdline": "{{thermos.task_id}} {{thermos.user}} {{mesos.instance}} {{mesos.hostname}} "
                "{{thermos.ports[http]}}",
            }
        ],
        "resources": {"cpu": 1.0, "ram": 1 << 30, "disk": 1 << 30},
    },
}


def config(data: str | bytes = json.dumps(JOB), **others: Value) -> dict[int, Value]:
    """A TaskConfig with a value in every field that the scheduler knows."""
    fields = {
        7: boolean(True),
        11: i32(0),
        13: i32(1),
        17: struct({2: text("somebody")}),
        18: boolean(False),
        20: many(TType.SET, TType.STRUCT, [{1: text("host"), 2: struct({2: struct({1: i32(1)})})}]),
        22: pairs(TType.STRING, TType.STRING, []),
        23: text("a@b.example"),
        25: struct({1: text("AuroraExecutor"), 2: text(data)}),
        # A set of structs: nothing that Python could hash.
        27: many(TType.SET, TType.STRUCT, [{1: text("k"), 2: text("v")}, {1: text("k"), 2: text("w")}]),
        28: struct({1: text("www"), 2: text("prod"), 3: text("shop")}),
        29: struct({1: struct({})}),
        30: text("preferred"),
        32: many(TType.SET, TType.STRUCT, [{1: double(1.0)}, {2: i64(1024)}, {3: i64(1024)}, {4: text("http")}]),
        33: many(TType.SET, TType.STRUCT, [{1: text("http://x"), 2: boolean(True), 3: boolean(False)}]),
        34: struct({1: boolean(True), 2: i64(0)}),
        35: struct({1: struct({1: i64(20), 2: i64(1800)})}),
    }
    return fields | {int(number[1:]): value for number, value in others.items()}


def assigned(**others: Value) -> dict[int, Value]:
    """An AssignedTask; `_6=...` replaces field 6."""
    fields = {
        1: text("www-prod-shop-3-7f0e"),
        2: text("agent-1"),
        3: text("host7.example"),
        4: struct(config()),
        5: pairs(TType.STRING, TType.I32, [("http", 31337), ("admin", 31338)]),
        6: i32(3),
    }
    return fields | {int(number[1:]): value for number, value in others.items()}


def info(data: bytes) -> mesos_pb2.TaskInfo:
    task = mesos_pb2.TaskInfo(name="www/prod/shop", data=data)
    task.task_id.value = "www-prod-shop-3-7f0e"
    return task


def loaded(fields: dict[int, Value]) -> LoadedTask:
    return load(info(encode(fields)), hostname="unused")


def refusal(data: bytes) -> str:
    with pytest.raises(InvalidTask) as caught:
        load(info(data), hostname="h")
    # Aurora reschedules a task for ever whose update is an error.
    assert caught.value.aurora
    return str(caught.value)


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


@pytest.mark.parametrize(
    ("fields", "violation"),
    [
        ({}, "AssignedTask.task: is required"),
        ({4: struct({})}, "AssignedTask.task.executorConfig: is required"),
        ({4: struct({25: struct({})})}, "AssignedTask.task.executorConfig.data: is required: it is the job"),
        ({4: struct(config(""))}, "AssignedTask.task.executorConfig.data: the task is empty"),
        ({4: struct(config("{"))}, "AssignedTask.task.executorConfig.data: the task is not JSON: line 1 column 2"),
        ({4: struct(config(b"\xff"))}, "AssignedTask.task.executorConfig.data: is not UTF-8: byte 0"),
        ({4: struct(config("[]"))}, "AssignedTask.task.executorConfig.data: the task must be a JSON object"),
        ({4: text("x")}, "AssignedTask.task: must be of type struct, not string"),
        ({**assigned(), 6: text("3")}, "AssignedTask.instanceId: must be of type i32, not string"),
        ({**assigned(), 6: i32(-1)}, "instance: must not be negative, is -1"),
        ({**assigned(), 1: text(b"\xc3")}, "AssignedTask.taskId: is not UTF-8: byte 0"),
        (
            {**assigned(), 5: pairs(TType.STRING, TType.I32, [("http", 70000)])},
            "AssignedTask.assignedPorts.http: must be from 1 to 65535, is 70000",
        ),
        (
            {**assigned(), 5: pairs(TType.STRING, TType.I32, [("http", 1), ("http", 2)])},
            "AssignedTask.assignedPorts.http: is given twice",
        ),
        (
            {**assigned(), 5: pairs(TType.STRING, TType.I64, [("http", 1)])},
            "AssignedTask.assignedPorts: must be a map of string to i32",
        ),
        (
            {**assigned(), 4: struct(config('{"processes": [{"name": "a"}]}'))},
            "processes[0].cmdline: is required",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(fields: dict[int, Value], violation: str) -> None:
    assert violation in refusal(encode(fields))


def test_a_field_that_comes_twice_is_refused() -> None:
    whole = encode(assigned())
    assert "AssignedTask.instanceId: is given twice" in refusal(whole[:-1] + encode({6: i32(4)}))


def test_it_may_be_cut_off_at_any_byte() -> None:
    whole = encode(assigned())
    for length in range(len(whole)):
        with pytest.raises(InvalidTask):
            load(info(whole[:length]), hostname="h")


def hostile(field: int, kind: int, rest: bytes) -> bytes:
    return bytes([kind]) + packing.pack("!h", field) + rest


@pytest.mark.parametrize(
    "data",
    [
        # Lengths of strings and containers far beyond what there is, and negative ones.
        hostile(1, TType.STRING, packing.pack("!i", 2**31 - 1)),
        hostile(1, TType.STRING, packing.pack("!i", -1)),
        hostile(99, TType.STRING, packing.pack("!i", 2**31 - 1)),
        hostile(99, TType.LIST, packing.pack("!bi", TType.STRUCT, 2**31 - 1)),
        hostile(99, TType.LIST, packing.pack("!bi", TType.I64, -1)),
        hostile(99, TType.MAP, packing.pack("!bbi", TType.BYTE, TType.BYTE, 2**31 - 1)),
        hostile(5, TType.MAP, packing.pack("!bbi", TType.STRING, TType.I32, 2**31 - 1)),
        # Values of types that take no bytes.
        hostile(99, TType.LIST, packing.pack("!bi", TType.STOP, 5) + bytes(10)),
        hostile(99, TType.SET, packing.pack("!bi", TType.VOID, 5) + bytes(10)),
        hostile(98, TType.BOOL, b"\1") + hostile(99, 0x7F, bytes(10)),
        hostile(98, TType.BOOL, b"\1") + hostile(99, 0xF0, bytes(10)),
        # Depth.
        b"".join(hostile(9, TType.STRUCT, b"") for _ in range(100_000)),
        hostile(9, TType.LIST, packing.pack("!bi", TType.LIST, 1) * 100_000),
    ],
)
def test_hostile_lengths_types_and_depths_are_refused(data: bytes) -> None:
    assert refusal(data).startswith("AssignedTask: is ")


@pytest.mark.parametrize(
    "data",
    [
        hostile(99, TType.LIST, packing.pack("!bi", TType.STRUCT, 18 << 20) + bytes(18 << 20)),
        hostile(99, TType.MAP, packing.pack("!bbi", TType.STRUCT, TType.BYTE, 9 << 20) + bytes(18 << 20)),
        hostile(5, TType.MAP, packing.pack("!bbi", TType.STRING, TType.I32, 2 << 20) + bytes(16 << 20)),
        hostile(9, TType.BOOL, b"\1") * (4 << 20),
    ],
)
def test_millions_of_values_cost_no_more_than_the_limit(data: bytes) -> None:
    assert len(data) <= MAX_BYTES
    tracemalloc.start()
    begin = time.process_time()
    try:
        assert f"more than {MAX_VALUES} values" in refusal(data)
        took = time.process_time() - begin
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 128 << 20
    # Processor time; some tenths of a second where nothing else runs and memory is not traced.
    assert took < 20


def test_a_long_list_of_numbers_is_one_step() -> None:
    blob = hostile(99, TType.LIST, packing.pack("!bi", TType.BYTE, 16 << 20) + bytes(16 << 20))
    assert load(info(blob + encode(assigned())), hostname="h").name == "shop"


def test_it_is_refused_when_it_is_too_large() -> None:
    task = info(hostile(99, TType.STRING, b""))
    task.data += bytes(MAX_BYTES)
    with pytest.raises(InvalidTask, match="at most 19922944 are accepted"):
        load(task, hostname="h")


# How long an example takes says nothing where other tests run beside it.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def attempt(data: bytes) -> None:
    try:
        load(info(data), hostname="h")
    except InvalidTask as invalid:
        violations = invalid.violations
    else:
        return
    assert violations
    assert not any("\n" in violation for violation in violations)


@PATIENT
@given(st.binary(max_size=200))
def test_any_struct_is_a_task_or_an_invalid_task(data: bytes) -> None:
    attempt(b"\x0b\0" + data)
    attempt(b"\x0c\0\x04" + data)


WHOLE = encode(assigned())


@PATIENT
@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_any_damage_leaves_a_task_or_an_invalid_task(damage: list[tuple[int, int]]) -> None:
    data = bytearray(WHOLE)
    for place, byte in damage:
        data[place] = byte
    attempt(bytes(data))


SIMPLE = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@PATIENT
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
