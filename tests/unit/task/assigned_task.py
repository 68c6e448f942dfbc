"""An AssignedTask as the scheduler writes it, field by field, and what comes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from thrift.Thrift import TType

from mesos.v1 import mesos_pb2
from services.common.task import InvalidTask, LoadedTask, load
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
