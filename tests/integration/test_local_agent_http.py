"""The executor API's sockets under clients that do not behave."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2
from tests.integration.executor_double import Connection, ExecutorDouble
from tests.integration.local_agent_rig import AgentUnderTest, task_info

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Event = executor_pb2.Event
Call = executor_pb2.Call


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentUnderTest]:
    directory: Path = tmp_path_factory.mktemp("agent")
    with AgentUnderTest(directory) as running:
        yield running


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"POST /api/v1/executor HTTP/2.0\r\n\r\n",
        b"POST /api/v1/executor HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/v1/executor HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST /api/v1/executor HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /api/v1/executor HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
        b"POST /" + b"a" * 70_000,
    ],
)
def test_bytes_that_are_no_request_get_400_and_the_connection_ends(agent: AgentUnderTest, garbage: bytes) -> None:
    connection = Connection(agent.port)
    connection.socket.sendall(garbage)
    assert connection.head()[0] == 400
    assert connection.ended()
    connection.socket.close()


def test_request_in_single_bytes_is_answered_like_any_other(agent: AgentUnderTest) -> None:
    connection = Connection(agent.port)
    connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    body = ExecutorDouble(agent.port, "f").call(Call.HEARTBEAT).SerializeToString()
    head = (
        f"POST /api/v1/executor HTTP/1.1\r\nContent-Type: application/x-protobuf\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    for byte in head.encode() + body:
        connection.socket.sendall(bytes([byte]))
    assert connection.head() == (202, "")
    connection.socket.close()


def test_two_requests_in_one_segment_are_answered_in_order(agent: AgentUnderTest) -> None:
    connection = Connection(agent.port)
    wrong = b"GET /api/v1/executor HTTP/1.1\r\n\r\n"
    unknown = b"GET /nowhere HTTP/1.1\r\n\r\n"
    connection.socket.sendall(wrong + unknown)
    assert [connection.head()[0] for _ in range(2)] == [405, 404]
    connection.socket.close()


def test_stream_that_nobody_reads_does_not_hold_up_others(agent: AgentUnderTest) -> None:
    tasks = [task_info(f"big-{n}", executor_id="lazy") for n in range(4)]
    for task in tasks:
        task.data = b"x" * (3 << 20)
    launched = [agent.launch(task) for task in tasks][-1]
    with ExecutorDouble(agent.port, launched.framework_id, "lazy") as lazy:
        assert lazy.subscribe() == (200, "")
        # 12 MiB wait on a stream that is not read; another executor is served meanwhile.
        other = agent.launch(task_info("small", executor_id="busy"))
        with ExecutorDouble(agent.port, other.framework_id, "busy") as busy:
            busy.subscribe()
            busy.event(Event.SUBSCRIBED)
            busy.event(Event.LAUNCH)
            assert busy.update(busy.status("small", mesos_pb2.TASK_RUNNING))[0] == 202
            busy.event(Event.ACKNOWLEDGED)
        lazy.event(Event.SUBSCRIBED)
        for task in tasks:
            assert lazy.event(Event.LAUNCH).launch.task.data == task.data


def test_second_subscribe_ends_the_first_stream_and_keeps_its_connection(agent: AgentUnderTest) -> None:
    launched = agent.launch(task_info("t-twice", executor_id="twice"))
    first = ExecutorDouble(agent.port, launched.framework_id, "twice")
    second = ExecutorDouble(agent.port, launched.framework_id, "twice")
    with first, second:
        first.subscribe()
        first.event(Event.SUBSCRIBED)
        first.event(Event.LAUNCH)
        second.subscribe(tasks=(task_info("t-twice"),))
        second.event(Event.SUBSCRIBED)
        assert first.stream is not None
        assert first.stream.event() is None
        first.stream.post(first.call(Call.HEARTBEAT))
        assert first.stream.head() == (202, "")
        agent.kill("t-twice")
        second.event(Event.KILL)


def test_malformed_uuid_in_a_list_is_refused_and_named(agent: AgentUnderTest) -> None:
    launched = agent.launch(task_info("t-list", executor_id="list"))
    with ExecutorDouble(agent.port, launched.framework_id, "list") as executor:
        status = executor.status("t-list", mesos_pb2.TASK_RUNNING)
        status.uuid = bytes(16)
        code, body = executor.subscribe(tasks=(task_info("t-list"),), updates=(status,))
        assert code == 400
        assert body.startswith("subscribe.unacknowledged_updates[0].status.uuid: ")


def test_update_before_launch_was_delivered_is_refused_and_named(agent: AgentUnderTest) -> None:
    # The owner has not subscribed; another executor of the framework updates its task.
    agent.launch(task_info("t-early-1", executor_id="early-1"))
    other = agent.launch(task_info("t-early-2", executor_id="early-2"))
    with ExecutorDouble(agent.port, other.framework_id, "early-2") as sender:
        sender.subscribe()
        sender.event(Event.SUBSCRIBED)
        sender.event(Event.LAUNCH)
        code, body = sender.update(sender.status("t-early-1", mesos_pb2.TASK_RUNNING))
        assert code == 400
        assert body.startswith("update.status.task_id: t-early-1 ")


def test_text_that_is_not_utf8_is_passed_on_but_not_as_a_task_id(agent: AgentUnderTest) -> None:
    launched = agent.launch(task_info("t-utf8", executor_id="utf8"))
    with ExecutorDouble(agent.port, launched.framework_id, "utf8") as executor:
        executor.subscribe()
        executor.event(Event.SUBSCRIBED)
        executor.event(Event.LAUNCH)
        call = executor.call(Call.UPDATE)
        call.update.status.CopyFrom(executor.status("t-utf8", mesos_pb2.TASK_RUNNING, "marker"))
        connection = Connection(agent.port)
        connection.post_bytes(call.SerializeToString().replace(b"t-utf8", b"t-utf\xff"))
        assert connection.head() == (400, "Failed to validate Executor::Call: update.status.task_id.value is not UTF-8")
        connection.post_bytes(call.SerializeToString().replace(b"marker", b"mark\xffr"))
        assert connection.head() == (202, "")
        connection.socket.close()
        assert b"mark\xffr" in agent.statuses("t-utf8", 1)[0].SerializeToString()
