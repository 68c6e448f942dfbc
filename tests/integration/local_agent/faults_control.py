"""FaultService for tests, and a reader of streams that takes nothing for granted."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2
from services.local_agent.faults import spec
from tests.integration.local_agent.executor_double import Connection, ExecutorDouble
from tests.integration.local_agent.rig import TIMEOUT, AgentUnderTest, task_info
from tests.integration.ready import readable
from trivet.agent.v1 import faults_pb2, faults_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable

Event = executor_pb2.Event
RUNNING = mesos_pb2.TASK_RUNNING


class FaultControl:
    """Faults of one agent, as texts."""

    def __init__(self, agent: AgentUnderTest) -> None:
        self.stub = faults_pb2_grpc.FaultServiceStub(agent.channel)

    def add(self, text: str) -> str:
        return self.add_fault(spec.parse(text))

    def add_fault(self, fault: faults_pb2.Fault) -> str:
        request = faults_pb2.AddFaultRequest(fault=fault)
        return str(self.stub.AddFault(request, timeout=TIMEOUT, wait_for_ready=True).id)

    def remove(self, fault_id: str = "") -> list[str]:
        return list(self.stub.RemoveFaults(faults_pb2.RemoveFaultsRequest(id=fault_id), timeout=TIMEOUT).ids)

    def list(self) -> list[faults_pb2.FaultInForce]:
        return list(self.stub.ListFaults(faults_pb2.ListFaultsRequest(), timeout=TIMEOUT).faults)

    def wait_held(self, count: int) -> None:
        """Returns when the first fault holds at least so many back; 0: when it holds none."""
        until(lambda: (self.list()[0].held >= count) if count else (self.list()[0].held == 0))

    def restart(
        self, how: faults_pb2.RestartHow, gap: float = 0.0, not_found: float = 0.0, unavailable: float = 0.0
    ) -> None:
        request = faults_pb2.RestartAgentRequest(
            how=how, gap_seconds=gap, not_found_seconds=not_found, unavailable_seconds=unavailable
        )
        self.stub.RestartAgent(request, timeout=TIMEOUT, wait_for_ready=True)


def until(condition: Callable[[], bool]) -> None:
    """Asks until it is so; each question is a call to the agent, which paces the loop."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "it does not come to it"


class RunningTask:
    """An executor double that has subscribed and taken its task."""

    def __init__(self, agent: AgentUnderTest, task_id: str) -> None:
        self.agent = agent
        self.task_id = task_id
        launched = agent.launch(task_info(task_id, executor_id=f"e-{task_id}"))
        self.executor = ExecutorDouble(agent.port, launched.framework_id, f"e-{task_id}")
        assert self.executor.subscribe() == (200, "")
        self.executor.event(Event.SUBSCRIBED)
        self.executor.event(Event.LAUNCH)

    @property
    def stream(self) -> Connection:
        assert self.executor.stream is not None
        return self.executor.stream

    def status(self, message: str = "") -> mesos_pb2.TaskStatus:
        return self.executor.status(self.task_id, RUNNING, message)

    def update_call(self, message: str = "") -> executor_pb2.Call:
        call = self.executor.call(executor_pb2.Call.UPDATE)
        call.update.status.CopyFrom(self.status(message))
        return call

    def post(self, call: executor_pb2.Call) -> Connection:
        """On a connection of its own; the answer is not waited for."""
        connection = Connection(self.agent.port)
        connection.post(call)
        return connection

    def resubscribe(self) -> tuple[int, str]:
        """On a new connection, with the task in the list; the old stream is left open."""
        return self.executor.subscribe(tasks=(task_info(self.task_id, executor_id=f"e-{self.task_id}"),))

    def seen(self) -> list[mesos_pb2.TaskStatus]:
        """What the scheduler has got up to now."""
        with self.agent.watch(self.task_id) as watch:
            marker = self.executor.status(self.task_id, RUNNING, "marker")
            assert self.executor.update(marker)[0] == 202
            seen = []
            while (status := watch.next().status).uuid != marker.uuid:
                seen.append(status)
            return [status for status in seen if status.message != marker.message]

    def silent(self) -> bool:
        """Nothing has come on the stream."""
        return self.stream.drained() and not readable(self.stream.socket, 0)

    def close(self) -> None:
        self.executor.disconnect()
        self.agent.shut_down(self.executor.framework_id, self.executor.executor_id)


def chunks(connection: Connection, size: int) -> list[bytes]:
    """Chunks of a stream until they hold `size` bytes."""
    found: list[bytes] = []
    while sum(map(len, found)) < size:
        found.append(connection.chunk())
    return found


def refused(port: int) -> bool:
    """Whether nobody listens."""
    with socket.socket() as probe:
        probe.settimeout(TIMEOUT)
        return probe.connect_ex(("127.0.0.1", port)) != 0
