"""Clients that break, freeze, flood or lie: they harm neither other executors nor the agent's memory."""

from __future__ import annotations

import os
import random
import signal
import socket
import struct
import subprocess
import sys
from typing import TYPE_CHECKING

import grpc
import pytest

from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2
from services.local_agent.wire import http
from tests.integration.local_agent.executor_double import Connection
from tests.integration.local_agent.raw_http import LONG, RawConnection, ask, json_call, subscribed
from tests.integration.local_agent.rig import TIMEOUT, AgentUnderTest, task_info
from trivet.agent.v1 import agent_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.local_agent.executor_double import ExecutorDouble

Event = executor_pb2.Event
HEARTBEAT = json_call("HEARTBEAT", "f", "e")
HEAD = f"POST {LONG} HTTP/1.1\r\nContent-Type: application/json\r\n".encode()
REQUEST = HEAD + b"Content-Length: %d\r\n\r\n" % len(HEARTBEAT) + HEARTBEAT
MIB = 1 << 20

FROZEN = """
import http.client, json, os, sys
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
ids = {"executor_id": {"value": "frozen"}, "framework_id": {"value": sys.argv[2]}}
body = json.dumps({**ids, "type": "SUBSCRIBE", "subscribe": {}})
connection.request("POST", "/slave(1)/api/v1/executor", body, {"Content-Type": "application/json"})
stream = connection.getresponse()
for _ in range(2):
    # SUBSCRIBED and LAUNCH.
    stream.read(int(stream.readline()))
print("subscribed", flush=True)
read = 0
try:
    while data := stream.read1(1 << 20):
        read += len(data)
except (ConnectionResetError, http.client.IncompleteRead):
    print("cut", read, flush=True)
"""


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentUnderTest]:
    with AgentUnderTest(tmp_path) as running:
        yield running


def memory(pid: int) -> int:
    """Bytes of memory in use."""
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmRSS:"))


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def works(executor: ExecutorDouble, times: int) -> None:
    """The executor reports and is acknowledged, as if it were alone."""
    for number in range(times):
        status = executor.status(executor.executor_id, mesos_pb2.TASK_RUNNING, f"{number}")
        assert executor.update(status)[0] == 202
        assert executor.event(Event.ACKNOWLEDGED).acknowledged.uuid == status.uuid


def test_an_executor_goes_on_among_hostile_connections(agent: AgentUnderTest) -> None:
    chance = random.Random(2)
    with subscribed(agent, "good") as good:
        before = descriptors(agent.pid)
        idle = [socket.create_connection(("127.0.0.1", agent.port)) for _ in range(200)]
        works(good, 3)
        subscribe = json_call("SUBSCRIBE", good.framework_id, "good")
        stolen = HEAD + b"Content-Length: %d\r\n\r\n" % (len(subscribe) + 1) + subscribe
        for number in range(60):
            client = socket.create_connection(("127.0.0.1", agent.port))
            # Half a request; half a SUBSCRIBE in another's name; garbage; a reset in the middle.
            client.sendall((REQUEST[: chance.randrange(len(REQUEST))], stolen, chance.randbytes(300))[number % 3])
            if number % 2:
                reset(client)
            else:
                idle.append(client)
            if number % 10 == 0:
                works(good, 1)
        works(good, 3)
        for number, client in enumerate(idle):
            if number % 2:
                reset(client)
            else:
                client.close()
        works(good, 3)
        agent.kill("good")
        good.event(Event.KILL)
        # Each answer comes from a later turn of the agent's loop, which has then seen the ends of these connections.
        for _ in range(1000):
            if descriptors(agent.pid) <= before + 1:
                break
            assert good.ask(good.call(executor_pb2.Call.HEARTBEAT))[0] == 202
        assert descriptors(agent.pid) <= before + 1
    assert "Traceback" not in agent.errors.read_text()


def test_heads_that_never_end_cost_no_more_than_they_may_hold(agent: AgentUnderTest) -> None:
    with subscribed(agent, "good") as good:
        before = memory(agent.pid)
        slow = [socket.create_connection(("127.0.0.1", agent.port)) for _ in range(100)]
        for _ in range(6):
            for client in slow:
                client.sendall(b"X-Slow: " + b"a" * 10_000 + b"\r\n" if client is not slow[0] else HEAD)
            works(good, 1)
        # 100 heads of 60 000 bytes.
        assert memory(agent.pid) - before < 30 * MIB
        for client in slow[1:]:
            client.sendall(b"a" * 10_000)
            client.settimeout(TIMEOUT)
            assert client.recv(100).startswith(b"HTTP/1.1 400 Bad Request")
            client.close()
        slow[0].close()


def test_client_that_reads_no_answers_is_not_read_from_either(agent: AgentUnderTest) -> None:
    with subscribed(agent, "good") as good, RawConnection(agent.port) as flood:
        before = memory(agent.pid)
        flood.socket.setblocking(False)
        block, sent = REQUEST * 300, 0
        stuck = 0
        # Each answer to the other executor is a later turn of the agent's loop, in which it could have read.
        while stuck < 50 and sent < 400 * MIB:
            try:
                sent += flood.socket.send(block[sent % len(REQUEST) :])
                stuck = 0
            except BlockingIOError:
                stuck += 1
                works(good, 1)
        assert stuck == 50, "the agent reads on although nobody takes its answers"
        works(good, 3)
        assert memory(agent.pid) - before < 40 * MIB
        # Nothing is lost: every whole request is answered.
        flood.socket.settimeout(TIMEOUT)
        answers = bytearray()
        while answers.count(b"\r\n\r\n") < sent // len(REQUEST):
            answers += flood.socket.recv(16 * MIB)
        assert answers.count(b"HTTP/1.1 202 ") == answers.count(b"HTTP/1.1 ") == sent // len(REQUEST)


def test_stream_of_a_frozen_executor_is_cut_when_it_has_too_much_to_read(agent: AgentUnderTest) -> None:
    launched = agent.launch(task_info("frozen", executor_id="frozen"))
    command = [sys.executable, "-c", FROZEN, str(agent.port), launched.framework_id]
    message = agent_pb2.SendMessageRequest(
        framework_id=launched.framework_id, executor_id="frozen", data=b"x" * (3 * MIB)
    )
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as frozen, subscribed(agent, "good") as good:
        try:
            assert frozen.stdout is not None
            assert frozen.stdout.readline() == "subscribed\n"
            before = memory(agent.pid)
            frozen.send_signal(signal.SIGSTOP)
            delivered = 0
            # In base64 4 MiB each: 400 MiB in all, of which the agent holds at most 64.
            for _ in range(100):
                delivered += agent.stub.SendMessage(message, timeout=TIMEOUT).sent
            works(good, 3)
            assert 16 <= delivered < 40
            assert memory(agent.pid) - before < 200 * MIB
            frozen.send_signal(signal.SIGCONT)
            word, read = frozen.stdout.readline().split()
            assert word == "cut"
            assert int(read) < 80 * MIB
        finally:
            frozen.kill()
    assert "client does not read, connection reset" in agent.errors.read_text()
    # It may come back.
    answer = ask(agent.port, json_call("SUBSCRIBE", launched.framework_id, "frozen"))
    assert answer.status == 200


def test_launches_that_no_user_can_be_made_of_are_refused(agent: AgentUnderTest) -> None:
    zero, bytes_only = agent_pb2.LaunchTaskRequest(task=task_info("t")), agent_pb2.LaunchTaskRequest()
    zero.task.executor.command.user = "a\0b"
    named = agent_pb2.LaunchTaskRequest(task=task_info("t"))
    named.framework.user, named.framework.name = "no text", "n"
    bytes_only.ParseFromString(named.SerializeToString().replace(b"no text", b"\xff" * 7))
    for request, place in ((zero, "task.executor.command.user: "), (bytes_only, "framework.user: ")):
        with pytest.raises(grpc.RpcError) as refused:
            agent.stub.LaunchTask(request, timeout=TIMEOUT)
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert str(refused.value.details()).startswith(place)
    for name in ("٣", "9" * 5000):
        # No refusal: whether there is such a user the launch tells, and root's agent only.
        request = agent_pb2.LaunchTaskRequest(task=task_info(f"t{len(name)}", executor_id=f"e{len(name)}"))
        request.framework.user, request.framework.name = name, "n"
        agent.launch(request.task, request.framework)
        if not os.geteuid():
            assert "no user" in agent.statuses(request.task.task_id.value, 1)[0].message
    with subscribed(agent, "good") as good:
        works(good, 1)


def test_the_largest_call_that_is_taken_can_be_read_back(agent: AgentUnderTest) -> None:
    with subscribed(agent, "large") as executor:
        status = executor.status("large", mesos_pb2.TASK_RUNNING)
        call = executor.call(executor_pb2.Call.UPDATE)
        call.update.status.CopyFrom(status)
        # Lengths of the three messages around the data grow with it.
        call.update.status.data = bytes(http.MAX_BODY - call.ByteSize() - 13)
        assert http.MAX_BODY - 10 <= call.ByteSize() <= http.MAX_BODY
        connection = Connection(agent.port)
        # Seconds of work, on a machine that has other work.
        connection.socket.settimeout(4 * TIMEOUT)
        connection.post(call)
        assert connection.head() == (202, "")
        connection.socket.close()
        assert executor.event(Event.ACKNOWLEDGED).acknowledged.uuid == status.uuid
        assert agent.end(signal.SIGKILL) == -signal.SIGKILL
    agent.start()
    agent.wait_ready()
    assert agent.executor("large").task_ids == ["large"]
