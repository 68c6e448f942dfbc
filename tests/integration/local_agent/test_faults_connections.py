"""Faults on connections, over TCP and the unix socket, and the service's own answers."""

from __future__ import annotations

import itertools
import socket
import time
from typing import TYPE_CHECKING

import grpc
import pytest

from mesos.v1.executor import executor_pb2
from tests.integration.local_agent.executor_double import Connection
from tests.integration.local_agent.faults_control import FaultControl, RunningTask, refused
from tests.integration.local_agent.rig import TIMEOUT, AgentUnderTest
from tests.integration.ready import readable
from trivet.agent.v1 import faults_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Event = executor_pb2.Event
Call = executor_pb2.Call
_IDS = itertools.count()


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentUnderTest]:
    with AgentUnderTest(tmp_path_factory.mktemp("agent")) as running:
        yield running


@pytest.fixture
def faults(agent: AgentUnderTest) -> Iterator[FaultControl]:
    control = FaultControl(agent)
    yield control
    control.remove()


@pytest.fixture
def task(agent: AgentUnderTest, faults: FaultControl) -> Iterator[RunningTask]:
    running = RunningTask(agent, f"t{next(_IDS)}")
    yield running
    faults.remove()
    running.close()


# Connections.


@pytest.mark.parametrize("reset", [False, True])
def test_cut_connections_end_at_once(task: RunningTask, faults: FaultControl, reset: bool) -> None:
    faults.add(f"connection cut reset={str(reset).lower()} times=1")
    try:
        connection = Connection(task.agent.port)
    except ConnectionResetError:
        # So quick that connecting fails already.
        assert reset
    else:
        assert connection.rest() == (b"", reset)
        connection.socket.close()
    assert task.executor.update(task.status()) == (202, "")


def test_held_connections_are_read_when_the_fault_goes(task: RunningTask, faults: FaultControl) -> None:
    faults.add("connection hold")
    connection = task.post(task.update_call("held"))
    faults.wait_held(1)
    # Connections that stand are not concerned.
    assert task.agent.kill(task.task_id).sent
    task.executor.event(Event.KILL)
    assert not readable(connection.socket, 0)
    faults.remove()
    assert connection.head() == (202, "")
    connection.socket.close()


def test_delayed_connections_are_read_later(task: RunningTask, faults: FaultControl) -> None:
    faults.add("connection delay=250ms")
    begin = time.monotonic()
    assert task.executor.update(task.status()) == (202, "")
    assert time.monotonic() - begin >= 0.25
    assert task.executor.update(task.status()) == (202, "")


def test_nobody_listens_while_connections_are_refused(task: RunningTask, faults: FaultControl) -> None:
    assert task.executor.update(task.status()) == (202, "")
    task.executor.event(Event.ACKNOWLEDGED)
    for _ in range(2):
        first, second = faults.add("connection refuse"), faults.add("connection refuse")
        assert refused(task.agent.port)
        assert task.executor.update(task.status()) == (202, "")
        task.executor.event(Event.ACKNOWLEDGED)
        faults.remove(first)
        assert refused(task.agent.port)
        faults.remove(second)
        assert not refused(task.agent.port)
    assert task.resubscribe() == (200, "")


# The service.


def test_mistakes_are_named(faults: FaultControl) -> None:
    for fault, error in (
        (faults_pb2.Fault(), "fault: needs a target"),
        (
            faults_pb2.Fault(call=faults_pb2.CALL_TYPE_UPDATE, refuse=faults_pb2.Fault.Refuse(status=200)),
            "fault.refuse.status: 200 is not from 400 to 599",
        ),
    ):
        with pytest.raises(grpc.RpcError) as refusal:
            faults.add_fault(fault)
        assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert str(refusal.value.details()).startswith(error)
    with pytest.raises(grpc.RpcError) as unknown:
        faults.remove("nobody")
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
    for request, error in (
        (faults_pb2.RestartAgentRequest(), "how: "),
        (faults_pb2.RestartAgentRequest(how=faults_pb2.RESTART_HOW_TERM, gap_seconds=-1), "gap_seconds: "),
        (faults_pb2.RestartAgentRequest(how=faults_pb2.RESTART_HOW_KILL, not_found_seconds=1e9), "not_found_seconds: "),
    ):
        with pytest.raises(grpc.RpcError) as refusal:
            faults.stub.RestartAgent(request)
        assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert str(refusal.value.details()).startswith(error)


def test_faults_are_listed_in_order(faults: FaultControl) -> None:
    ids = [faults.add("update hold"), faults.add("event=any lose id=mine"), faults.add("connection hold")]
    assert [item.fault.id for item in faults.list()] == ids
    assert faults.remove("mine") == ["mine"]
    assert faults.remove() == [ids[0], ids[2]]
    assert faults.list() == []


# Over the unix socket, and from the start on.


@pytest.fixture
def both(tmp_path: Path) -> Iterator[AgentUnderTest]:
    """An agent with both sockets, which nobody can reach yet."""
    flags = ["--http-executor-domain-sockets", "--fault", "connection refuse id=start"]
    with AgentUnderTest(tmp_path, *flags) as running:
        yield running


def _connect(path: str) -> Connection:
    connection = Connection.__new__(Connection)
    connection.socket = socket.socket(socket.AF_UNIX)
    connection.socket.settimeout(TIMEOUT)
    connection.socket.connect(path)
    connection._buffer = b""
    return connection


def _refused(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) != 0


def test_both_sockets_refuse_from_the_start_and_listen_when_the_fault_goes(both: AgentUnderTest) -> None:
    path = f"{both.run_dir}/executors.sock"
    faults = FaultControl(both)
    assert [item.fault.id for item in faults.list()] == ["start"]
    for _ in range(2):
        assert refused(both.port)
        assert _refused(path)
        faults.remove()
        assert not refused(both.port)
        assert not _refused(path)
        faults.add("connection refuse")
    faults.remove()
    task = RunningTask(both, "t")
    task.close()


@pytest.mark.parametrize("reset", [False, True])
def test_cuts_end_unix_connections(both: AgentUnderTest, reset: bool) -> None:
    faults = FaultControl(both)
    faults.remove()
    faults.add(f"call=any cut reset={str(reset).lower()} times=1")
    connection = _connect(f"{both.run_dir}/executors.sock")
    call = executor_pb2.Call(type=executor_pb2.Call.HEARTBEAT)
    call.executor_id.value = call.framework_id.value = "x"
    connection.post(call)
    assert connection.rest()[0] == b""
    connection.socket.close()
    connection = _connect(f"{both.run_dir}/executors.sock")
    connection.post(call)
    assert connection.head() == (202, "")
    connection.socket.close()
