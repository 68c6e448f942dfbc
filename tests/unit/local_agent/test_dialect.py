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


def status_with(member: str) -> str:
    return f'{{{IDS},"update":{{"status":{{{member}}}}}}}'


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
    command = json.loads(dialect_writer.encode(mesos_pb2.CommandInfo(value="x")))
    assert command == {"shell": True, "value": "x"}
    assert dialect_writer.encode(mesos_pb2.AgentInfo(hostname="h")) == b'{"hostname":"h","port":5051}'
    assert b"role" not in dialect_writer.encode(mesos_pb2.Resource(name="cpus", type=mesos_pb2.Value.SCALAR))


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
        ('{"executor_id":{"value":NaN}}', "Failed to parse body into JSON: syntax error at line 1 near: NaN}}"),
        ('{"a":"\\ud800"}', 'Failed to parse body into JSON: syntax error at line 1 near: "}'),
        ('{"a":"\\udc00x"}', 'Failed to parse body into JSON: syntax error at line 1 near: x"}'),
        (
            status_with('"timestamp":"NaN"'),
            f"{PREFIX}Failed to parse 'NaN' as a JSON number for field 'timestamp': syntax error at line 1 near: NaN",
        ),
        (
            status_with('"timestamp":"true"'),
            f"{PREFIX}Failed to parse 'true' as a JSON number for field 'timestamp': Unexpected JSON type parsed",
        ),
        (
            status_with('"healthy":"yes"'),
            f"{PREFIX}Failed to parse 'yes' as a JSON boolean for field 'healthy': syntax error at line 1 near: yes",
        ),
        (
            status_with('"healthy":"1"'),
            f"{PREFIX}Failed to parse '1' as a JSON boolean for field 'healthy': Unexpected JSON type parsed",
        ),
        (status_with('"healthy":1'), f"{PREFIX}Not expecting a JSON number for field 'healthy'"),
        (status_with('"message":1'), f"{PREFIX}Not expecting a JSON number for field 'message'"),
        (status_with('"state":"TASK_FLYING"'), f"{PREFIX}Failed to find enum for 'TASK_FLYING'"),
        (f'{{{IDS},"message":{{"data":"a\xe4"}}}}', f"{PREFIX}Failed to base64 decode bytes field 'data': "),
        # Of two mistakes the first by the order of names.
        (f'{{{IDS},"update":[],"subscribe":[]}}', f"{PREFIX}Not expecting a JSON array for field 'subscribe'"),
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
        ("timestamp", "Infinity", float("inf")),
        ("timestamp", "-Infinity", float("-inf")),
        ("healthy", " true ", True),
        ("uuid", "AA\n E=%%%", b"\x00\x01"),
        ("uuid", "AAEAA", b"\x00\x01\x00"),
    ],
)
def test_what_mesos_tolerates_is_tolerated(field: str, value: object, expected: object) -> None:
    body = {"task_id": {"value": "t"}, "state": "TASK_RUNNING", field: value}
    status = dialect_reader.decode(mesos_pb2.TaskStatus, json.dumps(body).encode())
    if expected is not None:
        assert getattr(status, field) == expected
    assert status.state == mesos_pb2.TASK_RUNNING


def nested(levels: int) -> bytes:
    parents = '{"value":"c","parent":' * levels + '{"value":"c"}' + "}" * levels
    status = f'{{"task_id":{{"value":"t"}},"state":"TASK_RUNNING","container_status":{{"container_id":{parents}}}}}'
    return f'{{{IDS},"type":"UPDATE","update":{{"status":{status}}}}}'.encode()


def test_messages_are_nested_only_as_deep_as_protobuf_can_read_them_again() -> None:
    call = dialect_reader.decode(executor_pb2.Call, nested(80))
    assert executor_pb2.Call.FromString(call.SerializeToString()) == call
    for levels in (100, 300, 2000):
        with pytest.raises(DialectError):
            dialect_reader.decode(executor_pb2.Call, nested(levels))


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, "9223372036854775808", 1e300, "1e300"])
def test_numbers_that_do_not_fit_are_refused_where_mesos_would_store_others(value: object) -> None:
    with pytest.raises(DialectError, match="'nanoseconds': out of range"):
        dialect_reader.decode(mesos_pb2.DurationInfo, json.dumps({"nanoseconds": value}).encode())


@pytest.mark.parametrize("value", [7, "7", 7.0, "7.9", "7e0", "007"])
def test_integers_come_as_numbers_strings_or_fractions(value: object) -> None:
    body = json.dumps({"nanoseconds": value}).encode()
    assert dialect_reader.decode(mesos_pb2.DurationInfo, body).nanoseconds == 7


def test_repeated_field_takes_a_single_value_and_null_is_no_value() -> None:
    task = '{"name":"n","task_id":{"value":"t"},"agent_id":{"value":"a"}}'
    body = f'{{{IDS},"subscribe":{{"unacknowledged_tasks":{task}}}}}'
    assert len(dialect_reader.decode(executor_pb2.Call, body.encode()).subscribe.unacknowledged_tasks) == 1
    labels = dialect_reader.decode(mesos_pb2.Labels, b'{"labels":[null,{"key":"k"},null]}')
    assert [label.key for label in labels.labels] == ["k"]


def test_text_that_is_not_utf8_is_kept_and_written_as_it_came() -> None:
    body = b'{"labels":[{"key":"a\xffb","value":"\xe2\x82\xac"}]}'
    labels = dialect_reader.decode(mesos_pb2.Labels, body)
    assert b"a\xffb" in labels.SerializeToString()
    assert labels.labels[0].value == "\u20ac"
    assert dialect_writer.encode(labels) == body


def test_map_with_a_key_that_is_not_utf8_and_null_values() -> None:
    head = b'{"name":"n","task_id":{"value":"t"},"agent_id":{"value":"a"},"limits":'
    task = dialect_reader.decode(mesos_pb2.TaskInfo, head + b'{"m\xff":{"value":"Infinity"}}}')
    assert {key: scalar.value for key, scalar in task.limits.items()} == {"m\ufffd": float("inf")}
    assert b'"limits":{"m\xef\xbf\xbd":{"value":"Infinity"}}' in dialect_writer.encode(task)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (0.1, "0.1"),
        (4096.0, "4096.0"),
        (1795161842.840754, "1795161842.840754"),
        (1e15, "1000000000000000.0"),
        (1e16, "10000000000000000.0"),
        (1.5e20, "150000000000000000000.0"),
        (1e21, "1e21"),
        (1.25e22, "1.25e22"),
        (-1e-5, "-0.00001"),
        (1.2e-6, "0.0000012"),
        (1.2e-7, "1.2e-7"),
        (5e-324, "5e-324"),
        (float("inf"), '"Infinity"'),
        (float("-inf"), '"-Infinity"'),
        (float("nan"), '"NaN"'),
    ],
)
def test_doubles_are_written_as_by_mesos_writer(value: float, text: str) -> None:
    assert dialect_writer.number(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_doubles_lose_nothing(value: float) -> None:
    text = dialect_writer.number(value)
    assert float(text) == value
    assert any(mark in text for mark in ".e")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_strings_are_json_without_needless_escapes(text: str) -> None:
    written = dialect_writer.string(text)
    assert json.loads(written) == text
    assert "\\/" not in written


def test_control_characters_are_escaped_in_upper_case() -> None:
    assert dialect_writer.string('\x1f\n\x00"\\/\x7f') == '"\\u001F\\n\\u0000\\"\\\\/\x7f"'


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
