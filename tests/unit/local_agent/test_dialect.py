"""Mesos' JSON: what is written can be read, and what Mesos refuses is refused in its words."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2
from services.local_agent.wire import dialect_reader, dialect_writer
from services.local_agent.wire.dialect_reader import DialectError

PREFIX = "Failed to convert JSON into Call protobuf: "
IDS = '"executor_id":{"value":"e"},"framework_id":{"value":"f"}'

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
TASKS = st.builds(
    lambda name, data, seconds, low, labels, cpus: mesos_pb2.TaskInfo(
        name=name,
        task_id=mesos_pb2.TaskID(value=name),
        agent_id=mesos_pb2.AgentID(value="a"),
        data=data,
        kill_policy=mesos_pb2.KillPolicy(grace_period=mesos_pb2.DurationInfo(nanoseconds=seconds)),
        labels=mesos_pb2.Labels(labels=[mesos_pb2.Label(key=key) for key in labels]),
        resources=[
            mesos_pb2.Resource(
                name="cpus", type=mesos_pb2.Value.SCALAR, scalar=mesos_pb2.Value.Scalar(value=cpus), role="r"
            )
        ],
        limits={"mem": mesos_pb2.Value.Scalar(value=low)},
    ),
    TEXT,
    st.binary(max_size=40),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([float("inf"), float("-inf"), 0.5]),
    st.lists(TEXT, max_size=3),
    st.floats(allow_nan=False, allow_infinity=False),
)


@given(TASKS)
def test_what_is_written_is_read_back(task: mesos_pb2.TaskInfo) -> None:
    assert dialect_reader.decode(mesos_pb2.TaskInfo, dialect_writer.encode(task)) == task


def test_unset_fields_with_an_explicit_default_are_printed_unless_deprecated() -> None:
    command = dialect_writer.to_json(mesos_pb2.CommandInfo(value="x"))
    assert command == {"shell": True, "value": "x"}
    assert dialect_writer.to_json(mesos_pb2.AgentInfo(hostname="h")) == {"hostname": "h", "port": 5051}
    assert "role" not in dialect_writer.to_json(mesos_pb2.Resource(name="cpus", type=mesos_pb2.Value.SCALAR))


def test_doubles_always_have_a_fraction_and_long_integers_are_numbers() -> None:
    status = mesos_pb2.TaskStatus(timestamp=3)
    assert b'"timestamp":3.0' in dialect_writer.encode(status)
    assert dialect_writer.encode(mesos_pb2.DurationInfo(nanoseconds=2**62)) == b'{"nanoseconds":%d}' % 2**62


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("", "Failed to parse body into JSON: syntax error at line 1 near: "),
        ("[]", f"{PREFIX}Expecting a JSON object"),
        ("{} x", "Failed to parse body into JSON: Parsed JSON included non-whitespace trailing characters:  x"),
        ("{}", f"{PREFIX}Missing required fields: executor_id, framework_id"),
        (f'{{{IDS},"update":{{}}}}', f"{PREFIX}Missing required fields: update.status"),
        (f'{{{IDS},"type":1}}', f"{PREFIX}Not expecting a JSON number for field 'type'"),
        (f'{{{IDS},"update":[]}}', f"{PREFIX}Not expecting a JSON array for field 'update'"),
        (f'{{{IDS},"message":{{"data":"a-b"}}}}', f"{PREFIX}Failed to base64 decode bytes field 'data': "),
        ('{"executor_id":{"value":NaN}}', "Failed to parse body into JSON: "),
        ('{"a":"\\ud800"}', 'Failed to parse body into JSON: syntax error at line 1 near: "}'),
        ('{"a":"\\udc00x"}', 'Failed to parse body into JSON: syntax error at line 1 near: x"}'),
        ("[" * 100_000, "Failed to parse body into JSON: "),
    ],
)
def test_mistakes_get_mesos_texts(body: str, error: str) -> None:
    with pytest.raises(DialectError) as refused:
        dialect_reader.decode(executor_pb2.Call, body.encode())
    assert str(refused.value).startswith(error)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("timestamp", "1.5", 1.5),
        ("timestamp", 2, 2.0),
        ("healthy", "true", True),
        ("message", None, ""),
        ("message", "\ud83d\ude00", "\U0001f600"),
        ("uuid", "AAE", b"\x00\x01"),
        ("reason", "REASON_OF_THE_FUTURE", 0),
        ("unknown", {"a": 1}, None),
    ],
)
def test_what_mesos_tolerates_is_tolerated(field: str, value: object, expected: object) -> None:
    body = {"task_id": {"value": "t"}, "state": "TASK_RUNNING", field: value}
    status = dialect_reader.decode(mesos_pb2.TaskStatus, json.dumps(body).encode())
    if expected is not None:
        assert getattr(status, field) == expected
    assert status.state == mesos_pb2.TASK_RUNNING


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
        lambda c: (
            st.dictionaries(
                st.sampled_from(["executor_id", "value", "update", "status", "uuid", "state", "labels", "subscribe"]), c
            )
            | st.lists(c, max_size=3)
        ),
        max_leaves=12,
    )
)
def test_no_json_breaks_the_reader(value: object) -> None:
    try:
        dialect_reader.decode(executor_pb2.Call, json.dumps(value).encode())
    except DialectError:
        return
