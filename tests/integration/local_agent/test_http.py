"""The executor API's sockets under clients that do not behave."""

from __future__ import annotations

import gzip
import signal
import socket
from http.client import HTTPConnection
from typing import TYPE_CHECKING

import pytest

from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2
from services.local_agent.wire import http
from tests.integration.local_agent.executor_double import Connection, ExecutorDouble
from tests.integration.local_agent.raw_http import LONG, RawConnection, ask, json_call, json_update, subscribed
from tests.integration.local_agent.rig import AgentUnderTest, task_info
from trivet.agent.v1 import agent_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Event = executor_pb2.Event
Call = executor_pb2.Call
HEARTBEAT = json_call("HEARTBEAT", "f", "e")


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
        b"POST /api/v1/executor HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        # A TLS ClientHello has no line end: its sender waits.
        b"\x16\x03\x01\x00\xa5\x01\x00\x00",
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


@pytest.mark.parametrize("size", [(64 << 20) + 1, 10**30])
def test_body_over_64_mib_gets_413(agent: AgentUnderTest, size: int) -> None:
    connection = Connection(agent.port)
    connection.socket.sendall(b"POST /api/v1/executor HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % size)
    assert connection.head() == (413, f"413 {http.reason(413)}. body longer than {64 << 20} bytes")
    assert connection.ended()
    connection.socket.close()


@pytest.mark.parametrize("chunked", [False, True])
def test_client_that_first_sends_it_all_gets_the_413_too(agent: AgentUnderTest, chunked: bool) -> None:
    client = HTTPConnection("127.0.0.1", agent.port, timeout=20)
    block = bytes(1 << 20)
    # With a length it is refused at once, else after 64 MiB: most of it comes after the answer.
    headers = {} if chunked else {"Content-Length": str(80 << 20)}
    client.request("POST", LONG, body=(block for _ in range(80)), headers=headers, encode_chunked=chunked)
    assert client.getresponse().status == 413
    client.close()


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


def test_pipelined_requests_are_answered_in_order_across_the_media_types(agent: AgentUnderTest) -> None:
    with RawConnection(agent.port) as connection:
        connection.send(HEARTBEAT)
        connection.send(b"x", method="PUT")
        connection.send(gzip.compress(HEARTBEAT, mtime=0), "Content-Encoding: gzip")
        connection.send(b"x", kind="text/plain")
        connection.send(HEARTBEAT, path="/nowhere")
        connection.send(HEARTBEAT)
        assert [connection.answer().status for _ in range(6)] == [202, 405, 202, 415, 404, 202]


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (("Content-Encoding: gzip",), gzip.compress(HEARTBEAT, mtime=0)),
        (("Content-Encoding: GZIP",), gzip.compress(HEARTBEAT, mtime=0)),
        (("Transfer-Encoding: chunked",), b"%x\r\n%s\r\n0\r\n\r\n" % (len(HEARTBEAT), HEARTBEAT)),
        (("Transfer-Encoding: chunked",), b"".join(b"1\r\n%c\r\n" % c for c in HEARTBEAT) + b"0\r\nTrailer: x\r\n\r\n"),
        # No interim response: the first that comes is the last.
        (("Expect: 100-continue",), HEARTBEAT),
        (("Host: somebody.else",), HEARTBEAT),
        (("Accept: text/html",), HEARTBEAT),
    ],
)
def test_ways_to_send_a_body_that_mesos_takes(agent: AgentUnderTest, headers: tuple[str, ...], body: bytes) -> None:
    with RawConnection(agent.port) as connection:
        answer = connection.ask(body, *headers)
        assert (answer.status, answer.headers) == (202, [("Content-Length", "0")])
        assert connection.ask(HEARTBEAT).status == 202


def test_gzip_bomb_is_refused_and_the_agent_stays_small(agent: AgentUnderTest) -> None:
    bomb = gzip.compress(bytes(1 << 30))
    before = memory(agent.pid)
    answer = ask(agent.port, bomb, "Content-Encoding: gzip")
    assert answer.status == 413
    assert memory(agent.pid) - before < 150 << 20


def test_call_behind_subscribe_is_answered_in_the_middle_of_the_stream(agent: AgentUnderTest) -> None:
    # As the recording `http-errors` shows: 202 between two chunks.
    with subscribed(agent, "behind") as executor:
        assert executor.stream is not None
        heartbeat = executor.call(Call.HEARTBEAT)
        executor.stream.post(heartbeat)
        assert executor.stream.head() == (202, "")
        agent.kill("behind")
        executor.event(Event.KILL)


@pytest.mark.parametrize("first", [b"POST %s HTTP/1.1\r\nConnection: close\r\n", b"POST %s HTTP/1.0\r\n"])
def test_stream_of_a_client_that_wants_no_second_request_lasts_until_its_end(
    agent: AgentUnderTest, first: bytes
) -> None:
    name = f"closing-{first[-5:-2].decode()}"
    launched = agent.launch(task_info(name, executor_id=name))
    body = json_call("SUBSCRIBE", launched.framework_id, name)
    head = first % LONG.encode() + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    with RawConnection(agent.port) as connection, RawConnection(agent.port) as other:
        connection.socket.sendall(head + body)
        assert connection.answer().status == 200
        assert [(connection.json_event() or {})["type"] for _ in range(2)] == ["SUBSCRIBED", "LAUNCH"]
        agent.kill(name)
        assert (connection.json_event() or {})["type"] == "KILL"
        listed = {"name": name, "task_id": {"value": name}, "agent_id": {"value": "a"}}
        again = json_call("SUBSCRIBE", launched.framework_id, name, subscribe={"unacknowledged_tasks": [listed]})
        assert other.ask(again).status == 200
        assert connection.json_event() is None
        assert connection.ended()


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


def test_what_an_executor_may_send_in_json_survives_the_agents_end(tmp_path: Path) -> None:
    with AgentUnderTest(tmp_path) as agent, subscribed(agent, "e") as executor:
        container: dict[str, object] = {"value": "c"}
        for _ in range(60):
            container = {"value": "c", "parent": container}
        status = executor.status("e", mesos_pb2.TASK_RUNNING, "marker")
        nested = json_update(executor, status, container_status={"container_id": container})
        assert ask(agent.port, nested.replace(b"marker", b"mark\xffr")).status == 202
        executor.event(Event.ACKNOWLEDGED)
        assert b"mark\xffr" in agent.statuses("e", 1)[0].SerializeToString()
        for _ in range(60):
            container = {"value": "c", "parent": container}
        deeper = json_update(executor, status, container_status={"container_id": container})
        answer = ask(agent.port, deeper)
        assert (answer.status, answer.body) == (
            400,
            "Failed to convert JSON into Call protobuf: Messages are nested deeper than 90 levels",
        )
        agent.end(signal.SIGKILL)
        agent.start()
        agent.wait_ready()
        assert b"mark\xffr" in agent.statuses("e", 1)[0].SerializeToString()


def test_json_stream_carries_what_is_not_utf8_as_it_is(agent: AgentUnderTest) -> None:
    task = task_info("raw", executor_id="raw")
    task.labels.labels.add(key="\u20ac\x01")
    request = agent_pb2.LaunchTaskRequest(task=task).SerializeToString().replace(b"\xe2\x82\xac", b"\xff\xfe\xfd")
    launch: Callable[..., bytes] = agent.channel.unary_unary("/trivet.agent.v1.LocalAgentService/LaunchTask")
    launched = agent_pb2.LaunchTaskResponse.FromString(launch(request, timeout=20))
    with RawConnection(agent.port) as connection:
        assert connection.ask(json_call("SUBSCRIBE", launched.framework_id, "raw")).status == 200
        connection.json_event()
        connection._until(b'"labels":[{"key":"\xff\xfe\xfd\\u0001"}]')


def memory(pid: int) -> int:
    """Bytes of memory that the process has had at most."""
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM:"))
