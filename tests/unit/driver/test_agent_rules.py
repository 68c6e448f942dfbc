"""Small pure parts of the agent side: durations, cadence, outbox, wire forms."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor_shim.driver.agent import cadence, poison, wire
from executor_shim.driver.agent.cadence import Answer
from executor_shim.driver.agent.http1 import BadResponse, read_response
from executor_shim.driver.agent.outbox import ACK_TIMEOUT, RETRY_PAUSE, SendPlan
from executor_shim.driver.environment import BadEnvironment, Environment, parse_duration
from executor_shim.driver.state.entries import Update
from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2

ENVIRON = {
    "MESOS_FRAMEWORK_ID": "F",
    "MESOS_EXECUTOR_ID": "E",
    "MESOS_AGENT_ENDPOINT": "127.0.0.1:5051",
    "MESOS_SLAVE_PID": "slave(1)@127.0.0.1:5051",
}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90secs", 90.0), ("15mins", 900.0), ("36hrs", 129600.0), ("1weeks", 604800.0), ("1.0625days", 91800.0),
     ("7500ms", 7.5), ("5us", 5e-6), ("7ns", 7e-9), ("0secs", 0.0)],
)  # fmt: skip
def test_mesos_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "5s", "5 secs", "-5secs", "5m", "1e3secs", "secs", "1.2.3secs", "٣secs"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a number"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["16000weeks", "9" * 400 + "secs"])
def test_a_duration_beyond_64_bits_of_nanoseconds_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected at most 9223372036 s"):
        parse_duration(text)


@pytest.mark.parametrize(("value", "expected"), [("1", True), ("0", False), ("true", False), (None, False)])
def test_checkpoint_is_exactly_one(value: str | None, *, expected: bool) -> None:
    environ = {**ENVIRON, **({} if value is None else {"MESOS_CHECKPOINT": value})}
    assert Environment(environ).checkpoint is expected


@pytest.mark.parametrize(
    ("name", "value"),
    [("MESOS_FRAMEWORK_ID", ""), ("MESOS_AGENT_ENDPOINT", "nonsense"), ("MESOS_AGENT_ENDPOINT", "h:99999"),
     ("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", "5s"), ("MESOS_RECOVERY_TIMEOUT", "soon")],
)  # fmt: skip
def test_a_bad_environment_names_the_variable(name: str, value: str) -> None:
    with pytest.raises(BadEnvironment, match=name):
        Environment({**ENVIRON, name: value})


def test_ipv6_endpoint() -> None:
    environment = Environment({**ENVIRON, "MESOS_AGENT_ENDPOINT": "[::1]:5051"})
    assert (environment.agent_host, environment.agent_port) == ("::1", 5051)


@given(st.floats(0, 1, exclude_max=True), st.floats(0.1, 15))
def test_an_attempt_a_second_at_least(chance: float, backoff_max: float) -> None:
    assert 0 <= cadence.pause(backoff_max, chance) <= min(1.0, backoff_max / 2)


@pytest.mark.parametrize(
    ("status", "answer"),
    [(200, Answer.SUBSCRIBED), (400, Answer.DISOWNED), (401, Answer.FORBIDDEN), (403, Answer.FORBIDDEN),
     (404, Answer.RETRY), (503, Answer.RETRY), (502, Answer.RETRY)],
)  # fmt: skip
def test_answers_to_subscribe(status: int, answer: Answer) -> None:
    assert cadence.meaning(status) is answer


def test_giving_up() -> None:
    known = {"lost_at": 10.0, "recovery_timeout": 900.0}
    assert cadence.give_up_at(**known, ever_subscribed=True, checkpoint=True) == 910.0
    assert cadence.give_up_at(**known, ever_subscribed=True, checkpoint=False) == 10.0
    assert cadence.give_up_at(**known, ever_subscribed=False, checkpoint=False) == 70.0


def update(n: int) -> Update:
    return Update("1:t", bytes([n]) * 16, 1, b"payload")


def test_updates_go_one_by_one_and_again_when_nobody_acknowledges() -> None:
    plan, first, second = SendPlan(), update(1), update(2)
    assert plan.next([first, second], 0.0).update is first
    plan.sending(first.uuid, 0.0)
    assert plan.next([first, second], 0.0).update is second
    plan.sending(second.uuid, 1.0)
    due = plan.next([first, second], 1.0)
    assert (due.update, due.at) == (None, ACK_TIMEOUT)
    assert plan.next([first, second], ACK_TIMEOUT).update is first


def test_after_503_the_same_update_comes_first_after_a_pause() -> None:
    plan, first, second = SendPlan(), update(1), update(2)
    plan.sending(first.uuid, 0.0)
    plan.failed(first.uuid, 0.0)
    assert plan.next([first, second], 0.0).update is None
    assert plan.next([first, second], RETRY_PAUSE).update is first


def test_what_a_subscribe_has_carried_is_not_sent_again_at_once() -> None:
    plan, first = SendPlan(), update(1)
    plan.listed([first.uuid], 5.0)
    assert plan.next([first], 5.0).update is None
    assert plan.next([first], 5.0 + ACK_TIMEOUT).update is first


@given(st.lists(st.binary(max_size=40)), st.lists(st.binary(max_size=40)), st.text(min_size=1, max_size=20))
def test_subscribe_by_hand_is_what_protobuf_makes(tasks: list[bytes], updates: list[bytes], name: str) -> None:
    infos = [
        mesos_pb2.TaskInfo(
            name="n", task_id=mesos_pb2.TaskID(value="t"), agent_id=mesos_pb2.AgentID(value="a"), data=data
        )
        for data in tasks
    ]
    statuses = [
        executor_pb2.Call.Update(
            status=mesos_pb2.TaskStatus(task_id=mesos_pb2.TaskID(value="t"), state="TASK_RUNNING", uuid=data)
        )
        for data in updates
    ]
    call = executor_pb2.Call(type="SUBSCRIBE")
    call.executor_id.value, call.framework_id.value = name, "F"
    call.subscribe.SetInParent()
    call.subscribe.unacknowledged_tasks.extend(infos)
    call.subscribe.unacknowledged_updates.extend(statuses)
    by_hand = wire.subscribe_call(
        name, "F", [i.SerializeToString() for i in infos], [s.SerializeToString() for s in statuses]
    )
    assert by_hand == call.SerializeToString()


def test_the_empty_subscribe_is_the_one_of_the_reference() -> None:
    assert wire.subscribe_call("E", "F", [], []).hex(" ") == "0a 03 0a 01 45 12 03 0a 01 46 18 01 22 00"


def test_update_by_hand_is_what_protobuf_makes() -> None:
    status = mesos_pb2.TaskStatus(task_id=mesos_pb2.TaskID(value="t"), state="TASK_RUNNING")
    payload = executor_pb2.Call.Update(status=status)
    call = executor_pb2.Call(type="UPDATE", update=payload)
    call.executor_id.value, call.framework_id.value = "E", "F"
    assert wire.update_call("E", "F", payload.SerializeToString()) == call.SerializeToString()


def test_the_task_of_a_poisonous_launch_is_found_by_hand() -> None:
    event = executor_pb2.Event(type="LAUNCH")
    event.launch.task.name, event.launch.task.task_id.value, event.launch.task.agent_id.value = "n", "the-id", "a"
    assert poison.launched_task_ids(event.SerializeToString()) == ["the-id"]


def test_the_tasks_of_a_poisonous_group_are_found_by_hand() -> None:
    event = executor_pb2.Event(type="LAUNCH_GROUP")
    for name in ("a", "b"):
        task = event.launch_group.task_group.tasks.add(name="n")
        task.task_id.value, task.agent_id.value = name, "s"
    assert poison.launched_task_ids(event.SerializeToString()) == ["a", "b"]


def test_other_events_bring_no_task() -> None:
    event = executor_pb2.Event(type="KILL")
    event.kill.task_id.value = "t"
    assert poison.launched_task_ids(event.SerializeToString()) == []


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0.1, 15), st.floats(0, 1, exclude_max=True))
def test_the_next_attempt_is_less_than_a_second_after_the_last(
    since: float, later: float, backoff_max: float, chance: float
) -> None:
    now = since + later
    at = cadence.next_attempt_at(since, now, backoff_max, chance)
    # One that took its time has waited already.
    assert now <= at <= max(now, since + 1.0)


@given(st.binary(max_size=200))
def test_looking_for_a_task_id_survives_any_bytes(data: bytes) -> None:
    poison.launched_task_ids(data)


def read(wire_bytes: bytes, limit: int = 4096) -> tuple[int, bytes, bool]:
    async def go() -> tuple[int, bytes, bool]:
        reader = asyncio.StreamReader()
        reader.feed_data(wire_bytes)
        reader.feed_eof()
        response = await read_response(reader, limit)
        return response.status, response.body, response.reusable

    return asyncio.run(go())


@pytest.mark.parametrize(
    ("wire_bytes", "expected"),
    [
        (b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", (202, b"", True)),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", (200, b"ok", True)),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", (200, b"ok", False)),
        (b"HTTP/1.0 200 OK\r\n\r\nall of it", (200, b"all of it", False)),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", (204, b"", True)),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", (200, b"ok", True)),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 9999, (200, b"x" * 4096, False)),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n" + b"x" * 9999, (200, b"x" * 4096, False)),
    ],
)
def test_responses(wire_bytes: bytes, expected: tuple[int, bytes, bool]) -> None:
    assert read(wire_bytes) == expected


@pytest.mark.parametrize(
    "wire_bytes",
    [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
     b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 500 + b"\r\n"],
)  # fmt: skip
def test_what_is_not_http_is_refused(wire_bytes: bytes) -> None:
    with pytest.raises(BadResponse):
        read(wire_bytes)
