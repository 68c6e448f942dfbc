"""An AssignedTask that does not fit, is damaged, or was made to do harm: refused with its place, at little cost."""

from __future__ import annotations

import struct as packing
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from thrift.Thrift import TType

from services.common.task import InvalidTask, load
from services.common.task.binary import MAX_VALUES
from services.common.task.schema import MAX_BYTES
from tests.unit.task.assigned_task import assigned, config, info, refusal
from tests.unit.task.thrift_writer import Value, encode, i32, pairs, struct, text


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


def attempt(data: bytes) -> None:
    try:
        load(info(data), hostname="h")
    except InvalidTask as invalid:
        violations = invalid.violations
    else:
        return
    assert violations
    assert not any("\n" in violation for violation in violations)


@given(st.binary(max_size=200))
def test_any_struct_is_a_task_or_an_invalid_task(data: bytes) -> None:
    attempt(b"\x0b\0" + data)
    attempt(b"\x0c\0\x04" + data)


WHOLE = encode(assigned())


@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_any_damage_leaves_a_task_or_an_invalid_task(damage: list[tuple[int, int]]) -> None:
    data = bytearray(WHOLE)
    for place, byte in damage:
        data[place] = byte
    attempt(bytes(data))
